// Built by `make ui`, never edited: a124db029f9a8b23665382be1f21aee08150f3fb2c5210adc0beecd108881cb2 342487e700f93c85a82e513e586fac18addf9d14d7bc6a92e9c120dece8a9fc4
// elements/asking.ts
var Failure = class extends Error {
  constructor(kind) {
    super(kind);
    this.kind = kind;
  }
  kind;
};
var token = () => document.querySelector("input[name=token]")?.value ?? "";
async function send(path, fields, signal) {
  let answer;
  try {
    const body = new URLSearchParams({ token: token(), ...fields });
    answer = await fetch(path, { method: "POST", body, redirect: "manual", signal: signal ?? null });
  } catch {
    throw new Failure("away");
  }
  if (answer.ok) return answer;
  throw new Failure(answer.status >= 500 ? "away" : answer.status === 429 ? "busy" : "refused");
}
async function ask(path, fields) {
  return await (await send(path, fields)).json();
}
async function* lines(path, fields, stop, silenceMs) {
  let silence = setTimeout(() => stop.abort(), silenceMs);
  try {
    const body = (await send(path, fields, stop.signal)).body;
    if (!body) throw new Failure("away");
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ; ) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(silence);
      silence = setTimeout(() => stop.abort(), silenceMs);
      const parts = (rest + value).split("\n");
      rest = parts.pop() ?? "";
      for (const line of parts) yield JSON.parse(line);
    }
  } catch (error) {
    throw error instanceof Failure ? error : new Failure("away");
  } finally {
    clearTimeout(silence);
    stop.abort();
  }
}

// elements/focus.ts
var BACK = "readroom.back";
var Standing = class {
  constructor(rows, view) {
    this.rows = rows;
    this.view = view;
    this.settle();
    rows.body.addEventListener("focusin", (event) => this.#take(rowOf(event.target)));
    rows.body.addEventListener("click", (event) => {
      const opened = event.target instanceof Element && event.target.closest("a");
      if (opened) this.leave(rowOf(opened));
    });
  }
  rows;
  view;
  get row() {
    return rowOf(document.activeElement) ?? rowOf(this.rows.body.querySelector("a[tabindex='0']"));
  }
  get isOnRow() {
    return this.rows.body.contains(document.activeElement);
  }
  go(row) {
    row?.querySelector("a")?.focus();
  }
  // From where somebody stands so many rows down; who stands nowhere begins at the first.
  move(by) {
    const all = this.rows.all;
    const at = this.row ? all.indexOf(this.row) : -1;
    this.go(this.isOnRow ? all[Math.min(Math.max(at + by, 0), all.length - 1)] : this.row ?? all[0]);
  }
  // Exactly one link is reached by Tab, whatever became of the rows.
  settle() {
    const links = this.rows.all.map((row) => row.querySelector("a"));
    const stood = links.find((link) => link.tabIndex === 0 && link.hasAttribute("tabindex"));
    for (const link of links) link.tabIndex = -1;
    const first = stood ?? links[0];
    if (first) first.tabIndex = 0;
  }
  leave(row) {
    if (row) sessionStorage.setItem(BACK, `${this.view} ${row.dataset.case}`);
  }
  // The case that somebody opened from this list and comes back from, once.
  static cameFrom(view) {
    const [kept, caseId] = (sessionStorage.getItem(BACK) ?? "").split(" ");
    sessionStorage.removeItem(BACK);
    return kept === view && caseId ? caseId : "";
  }
  #take(row) {
    const link = row?.querySelector("a");
    if (!link || link.tabIndex === 0) return;
    for (const other of this.rows.body.querySelectorAll("a[tabindex='0']")) other.setAttribute("tabindex", "-1");
    link.tabIndex = 0;
  }
};
function rowOf(at) {
  return at instanceof Element ? at.closest("tr[data-case]") : null;
}

// elements/follower.ts
var STREAMS = 3;
var ASK_EVERY_MS = 15e3;
var SILENCE_MS = 7e3;
var FIRST_RETRY_MS = 1e3;
var Follower = class {
  constructor(list, streams) {
    this.list = list;
    this.streams = streams;
    document.addEventListener("visibilitychange", () => this.#looked());
    addEventListener("pagehide", () => this.#stop?.abort());
    this.#looked();
  }
  list;
  streams;
  #stop = null;
  #wake = null;
  #running = false;
  #looked() {
    this.#stop?.abort();
    this.#wake?.();
    if (!document.hidden) void this.#run();
  }
  async #run() {
    if (this.#running) return;
    this.#running = true;
    let retry = FIRST_RETRY_MS;
    while (!document.hidden) {
      try {
        if (!this.streams || !await this.#streamed()) {
          this.list.show(await ask("/rows", this.list.fields()));
          this.list.told("asked");
          await this.#sleep(ASK_EVERY_MS);
        }
        retry = FIRST_RETRY_MS;
      } catch (error) {
        if (!(error instanceof Failure)) throw error;
        if (document.hidden) break;
        if (error.kind === "refused") return location.reload();
        this.list.told("lost");
        await this.#sleep(retry * (0.75 + Math.random() / 2));
        retry = Math.min(2 * retry, ASK_EVERY_MS);
      }
    }
    this.#running = false;
  }
  // Whether there was a place for a stream; it has ended then, and is to be asked for anew.
  async #streamed() {
    for (let place = 0; place < STREAMS; place++) {
      const taken = await navigator.locks.request(`readroom-stream-${place}`, { ifAvailable: true }, async (lock) => {
        if (lock) await this.#listen();
        return lock !== null;
      });
      if (taken) return true;
    }
    return false;
  }
  async #listen() {
    this.#stop = new AbortController();
    for await (const news of lines("/live", this.list.fields(), this.#stop, SILENCE_MS)) {
      if (news.end === "away") throw new Failure("away");
      if (news.end === "locked" || news.end === "ended") throw new Failure("refused");
      if (news.end) return;
      this.list.show(news);
      this.list.told("live");
    }
    throw new Failure("away");
  }
  #sleep(ms) {
    return new Promise((resolve) => {
      this.#wake = resolve;
      setTimeout(resolve, ms);
    });
  }
};

// elements/keys.ts
function listen(keys, hasFocus) {
  document.addEventListener("keydown", (event) => {
    const isElsewhere = document.querySelector("dialog[open], [popover]:popover-open") !== null;
    if (event.defaultPrevented || isElsewhere || event.ctrlKey || event.altKey || event.metaKey) return;
    const act = event.key.length === 1 ? lettersCount(event) && keys.letters[event.key] : hasFocus() && keys.others[event.shiftKey ? `Shift+${event.key}` : event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
}
function lettersCount(event) {
  const types = event.target instanceof Element && event.target.closest("textarea, select, input:not([type=radio])");
  const isButton = event.key === " " && event.target instanceof Element && event.target.closest("button, summary");
  return !types && !isButton && document.documentElement.dataset.keys !== "off";
}

// elements/row-menu.ts
var GAP = 4;
var RowMenu = class {
  constructor(menu, body, leave) {
    this.menu = menu;
    this.leave = leave;
    body.addEventListener("contextmenu", (event) => {
      const row = rowOf(event.target);
      if (!row || event.shiftKey && event.button === 2) return;
      event.preventDefault();
      if (event.button === 2) this.open(row, event.clientX, event.clientY);
      else this.open(row);
    });
    body.addEventListener("click", (event) => {
      const button = event.target instanceof Element && event.target.closest(".more");
      if (button) this.open(rowOf(button));
    });
    menu.addEventListener("keydown", (event) => this.#key(event));
    menu.addEventListener("click", () => this.#row && this.leave(this.#row));
    menu.addEventListener("toggle", (event) => {
      if (event.newState === "closed") this.#closed();
    });
  }
  menu;
  leave;
  #row = null;
  open(row, x, y) {
    if (!row?.dataset.case) return;
    this.#row = row;
    row.dataset.acting = "";
    const may = new Set(row.dataset.may?.split(" "));
    for (const item of this.menu.querySelectorAll("a")) {
      const needs = item.dataset.needs?.split(" ") ?? [];
      item.hidden = needs.length > 0 && !needs.some((act) => may.has(act));
      item.setAttribute("href", `/cases/${row.dataset.case}${item.dataset.path ?? ""}`);
    }
    this.menu.showPopover();
    const box = row.querySelector("a").getBoundingClientRect();
    const { width, height } = this.menu.getBoundingClientRect();
    const left = Math.min(x ?? box.left, innerWidth - width - GAP);
    const below = y ?? box.bottom + GAP;
    const top = below + height > innerHeight ? Math.max(GAP, (y ?? box.top) - height - GAP) : below;
    this.menu.style.left = `${left}px`;
    this.menu.style.top = `${top}px`;
    this.#items[0]?.focus();
  }
  get #items() {
    return [...this.menu.querySelectorAll("a:not([hidden])")];
  }
  #key(event) {
    const items = this.#items;
    const at = items.indexOf(document.activeElement);
    const first = (item) => item.textContent?.trim()[0]?.toLowerCase() === event.key.toLowerCase();
    const to = event.key === "ArrowDown" ? items[(at + 1) % items.length] : event.key === "ArrowUp" ? items[(at - 1 + items.length) % items.length] : event.key === "Home" ? items[0] : event.key === "End" ? items.at(-1) : event.key.length === 1 ? [...items.slice(at + 1), ...items].find(first) : void 0;
    if (event.key === "Tab") this.menu.hidePopover();
    else if (!to) return;
    to?.focus();
    event.preventDefault();
  }
  // The focus goes back to the row, unless it has gone elsewhere by itself.
  #closed() {
    delete this.#row?.dataset.acting;
    const at = document.activeElement;
    if (at === document.body || this.menu.contains(at) || this.#row?.contains(at)) this.#row?.querySelector("a")?.focus({ preventScroll: true });
  }
};

// elements/tree.ts
var SVG = "http://www.w3.org/2000/svg";
var HTML_TAGS = /* @__PURE__ */ new Set(["tr", "td", "th", "a", "b", "bdi", "span", "time", "button", "input"]);
var SVG_TAGS = /* @__PURE__ */ new Set(["svg", "title", "path"]);
var ATTRIBUTES = /* @__PURE__ */ new Set(["class", "role", "scope", "title", "datetime", "d", "tabindex", "type", "colspan"]);
function grow([tag, attributes, ...children]) {
  const isSvg = SVG_TAGS.has(tag);
  if (!isSvg && !HTML_TAGS.has(tag)) throw new Error(`a row holds no <${tag}>`);
  const element = isSvg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "viewbox") element.setAttribute("viewBox", value);
    else if (ATTRIBUTES.has(name) || /^(data|aria)-[a-z-]+$/.test(name)) element.setAttribute(name, value);
    else if (name === "href" && value.startsWith("/cases/")) element.setAttribute(name, value);
    else throw new Error(`an element of a row has no ${name}`);
  }
  element.append(...children.map((child) => typeof child === "string" ? child : grow(child)));
  return element;
}

// elements/rows.ts
var LEAVES_AFTER_MS = 4e3;
var Rows = class {
  constructor(body, left) {
    this.body = body;
    this.left = left;
  }
  body;
  left;
  get all() {
    return [...this.body.querySelectorAll("tr[data-case]")];
  }
  of(caseId) {
    return this.body.querySelector(`tr[data-case="${CSS.escape(caseId)}"]`);
  }
  get held() {
    return this.all.map((row) => `${row.dataset.case}:${row.dataset.is}`).join();
  }
  // Changes what is there; answers the ids of cases that are not. `isWhole`: no other page follows.
  show(news, isWhole) {
    for (const [caseId, tree] of Object.entries(news.parts ?? {})) this.#change(caseId, tree);
    for (const caseId of news.gone ?? []) this.#leave(this.of(caseId));
    const order = news.order ?? [];
    const last = order.findLastIndex((caseId) => this.of(caseId));
    const fresh = order.filter((caseId, at) => !this.of(caseId) && (isWhole || at < last || last < 0));
    return fresh;
  }
  #change(caseId, tree) {
    const before = this.of(caseId);
    if (!before) return;
    const after = grow(tree);
    const kept = before.querySelectorAll("[data-kept]");
    after.querySelectorAll("[data-kept]").forEach((cell, at) => {
      if (kept[at]?.hasChildNodes()) cell.replaceChildren(...kept[at].cloneNode(true).childNodes);
    });
    this.dress(after, before);
    const focused = before.contains(document.activeElement);
    before.replaceWith(after);
    if (focused) after.querySelector("a")?.focus({ preventScroll: true });
  }
  // What the page knows of a row beside its case.
  dress(after, before) {
    const tabindex = before.querySelector("a")?.getAttribute("tabindex");
    if (tabindex) after.querySelector("a")?.setAttribute("tabindex", tabindex);
    if (before.ariaSelected) after.ariaSelected = before.ariaSelected;
  }
  // Nothing of the case stays; the row goes a little later, and takes the focus to the next.
  #leave(row) {
    if (!row) return;
    const cells = row.cells.length;
    const note = grow(["td", { class: "left", colspan: String(cells) }, ["span", { tabindex: "-1" }, this.left]]);
    const focused = row.contains(document.activeElement);
    delete row.dataset.case;
    row.className = "left";
    row.removeAttribute("aria-selected");
    row.replaceChildren(note);
    if (focused) note.querySelector("span")?.focus({ preventScroll: true });
    setTimeout(() => {
      const next = row.nextElementSibling ?? row.previousElementSibling;
      if (row.contains(document.activeElement)) next?.querySelector("a")?.focus({ preventScroll: true });
      row.remove();
    }, LEAVES_AFTER_MS);
  }
};

// elements/case-list.ts
var TICK_MS = 1e3;
var ANNOUNCE_EVERY_MS = 3e4;
var CaseList = class extends HTMLElement {
  #rows = null;
  #standing = null;
  #menu = null;
  #fresh = [];
  #state = "";
  #heard = 0;
  #announced = -ANNOUNCE_EVERY_MS;
  connectedCallback() {
    const body = this.querySelector("tbody");
    if (body) this.#begin(body);
    this.#keys();
    this.#part("fresh")?.addEventListener("click", () => void this.#showFresh());
    setInterval(() => this.#tick(), TICK_MS);
    addEventListener("pageshow", (event) => {
      if (event.persisted) location.reload();
    });
    new Follower(this, !this.#words("page"));
  }
  #begin(body) {
    this.#rows = new Rows(body, this.#words("left"));
    const standing = this.#standing = new Standing(this.#rows, this.#words("view"));
    const menu = this.#part("menu");
    if (menu) this.#menu = new RowMenu(menu, body, (row) => standing.leave(row));
    const caseId = Standing.cameFrom(this.#words("view"));
    if (caseId) standing.go(this.#rows.of(caseId));
  }
  #keys() {
    const help = this.#part("help");
    document.querySelectorAll("[data-opens=help]").forEach((each) => each.addEventListener("click", () => help?.showModal()));
    const search = document.querySelector("input[type=search]");
    const move = (by) => () => this.#standing?.move(by);
    const page = Math.max(1, Math.floor((this.querySelector(".scroll")?.clientHeight ?? 0) / 40));
    listen({
      letters: {
        j: move(1),
        k: move(-1),
        n: () => this.#next(),
        m: () => this.#menu?.open(this.#standing?.row ?? null),
        ".": () => void this.#showFresh(),
        "?": () => help?.showModal(),
        "/": () => {
          search?.focus();
          search?.select();
        }
      },
      others: {
        ArrowDown: move(1),
        ArrowUp: move(-1),
        PageDown: move(page),
        PageUp: move(-page),
        Home: move(-Infinity),
        End: move(Infinity)
      }
    }, () => this.#standing?.isOnRow ?? false);
  }
  // The next case that waits for somebody, and that nobody has locked.
  #next() {
    const all = this.#rows?.all ?? [];
    const at = this.#standing?.isOnRow && this.#standing.row ? all.indexOf(this.#standing.row) : -1;
    const next = all.slice(at + 1).find((row) => "free" in row.dataset);
    if (next) this.#standing?.go(next);
    else this.#say(this.#words("none"));
  }
  fields() {
    return { ...this.#named(), page: this.#words("page"), held: this.#rows?.held ?? "" };
  }
  show(news) {
    if (!news.order) return;
    this.#fresh = this.#rows ? this.#rows.show(news, !this.#words("next")) : news.order;
    this.#standing?.settle();
    const button = this.#part("fresh");
    if (!button) return;
    const count = this.#fresh.length;
    button.hidden = count === 0;
    button.textContent = this.#words("fresh").replace("{}", String(count));
    if (count && performance.now() - this.#announced > ANNOUNCE_EVERY_MS) {
      this.#announced = performance.now();
      this.#say(button.textContent);
    }
  }
  told(state) {
    if (state !== "lost") this.#heard = Date.now();
    else if (this.#state !== "lost") this.#say(this.#lost());
    this.#state = state;
    this.#tick();
  }
  #named() {
    return { view: this.#words("view"), zone: this.#words("zone") };
  }
  // The first page as it is now; whoever stands on a case stays on it.
  async #showFresh() {
    if (!this.#rows) return location.reload();
    const stood = document.activeElement?.closest("tr[data-case]")?.dataset.case;
    const news = await ask("/rows", { ...this.#named(), page: this.#words("page"), held: "" }).catch(() => null);
    if (!news?.order) return;
    const body = this.#rows.body;
    body.replaceChildren(...news.order.flatMap((caseId) => news.parts?.[caseId] ? [grow(news.parts[caseId])] : []));
    body.closest(".scroll")?.scrollTo({ top: 0 });
    this.setAttribute("next", news.next ?? "");
    this.show({ order: news.order });
    const row = stood && this.#rows.of(stood) || this.#rows.all[0];
    this.#standing?.go(row);
  }
  #tick() {
    const at = this.#part("live");
    if (!at || !this.#state) return;
    const seconds = Math.round((Date.now() - this.#heard) / 1e3);
    const text = this.#state === "lost" ? this.#lost() : seconds < 4 ? this.#words("now") : this.#words("updated").replace("{}", String(seconds));
    if (at.textContent !== text) at.textContent = text;
    at.dataset.state = this.#state;
    for (const time of this.querySelectorAll("time")) {
      const text2 = since(time.dateTime);
      if (time.textContent !== text2) time.textContent = text2;
    }
  }
  #lost() {
    const at = new Date(this.#heard || performance.timeOrigin);
    const zone = { timeZone: this.#words("zone") };
    return this.#words("lost").replace("{}", at.toLocaleTimeString("en-GB", { ...zone, timeStyle: "short" }));
  }
  #say(text) {
    const at = this.#part("said");
    if (at) at.textContent = text;
  }
  #part(name) {
    return document.querySelector(`[data-list=${name}]`);
  }
  #words(name) {
    return this.getAttribute(name) ?? "";
  }
};
function since(instant) {
  const minutes = Math.max(0, Math.floor((Date.now() - Date.parse(instant)) / 6e4));
  if (minutes < 120) return `${minutes} min`;
  return minutes < 48 * 60 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / 1440)} d`;
}
customElements.define("case-list", CaseList);

// elements/draft-keeper.ts
var PAUSE_MS = 1e3;
var AT_LATEST_MS = 5e3;
var TICK_MS2 = 6e4;
var RETRY_MS = 5e3;
var BEACON_BYTES = 6e4;
var DraftKeeper = class extends HTMLElement {
  #form = null;
  #area = null;
  #told = null;
  #kept;
  #stopped = false;
  // after a refusal: the person decides, by sending the form
  #leaving = false;
  #asking = false;
  #again = false;
  #pause;
  #latest;
  connectedCallback() {
    this.#form = this.querySelector("form");
    this.#area = this.querySelector("textarea[name=text]");
    this.#told = this.querySelector("[data-told]");
    document.addEventListener("keydown", (event) => this.#key(event));
    addEventListener("pagehide", () => this.#leave());
    setInterval(() => this.#tick(), TICK_MS2);
    if (!this.hasAttribute("writes") || !this.#area) return;
    this.#kept = this.#area.value;
    this.#area.addEventListener("input", () => this.#typed());
    this.#area.addEventListener("blur", () => this.#keep());
    this.#form?.addEventListener("submit", () => {
      this.#leaving = true;
    });
    addEventListener("beforeunload", (event) => {
      if (this.#unsaved && !this.#leaving) event.preventDefault();
    });
    addEventListener("pageshow", (event) => {
      if (event.persisted) location.reload();
    });
  }
  #tick() {
    const writes = this.hasAttribute("writes") && !this.#stopped;
    void this.#ask(writes ? { here: "yes", renew: "yes" } : { here: "yes" });
  }
  get #text() {
    return this.#area?.value ?? "";
  }
  get #unsaved() {
    return this.#text !== this.#kept && this.#text.trim() !== "";
  }
  #typed() {
    clearTimeout(this.#pause);
    this.#pause = setTimeout(() => this.#keep(), PAUSE_MS);
    this.#latest ??= setTimeout(() => this.#keep(), AT_LATEST_MS);
  }
  async #keep() {
    clearTimeout(this.#pause);
    clearTimeout(this.#latest);
    this.#latest = void 0;
    if (this.#stopped || !this.#unsaved) return;
    if (this.#asking) {
      this.#again = true;
      return;
    }
    const text = this.#text;
    this.#say(this.#words("saving"));
    this.#asking = true;
    const said = await this.#ask({ typed: "yes", text });
    this.#asking = false;
    if (said?.made_from) {
      this.#kept = text;
      this.#field("made_from").value = said.made_from;
      this.#say(this.#words("saved") + this.#time(said.saved ?? ""));
    } else if (!this.#stopped) {
      this.#pause = setTimeout(() => this.#keep(), RETRY_MS);
    }
    if (this.#again) {
      this.#again = false;
      void this.#keep();
    }
  }
  async #ask(fields) {
    let answer;
    try {
      answer = await fetch(this.#words("keep"), { method: "POST", body: this.#body(fields), redirect: "manual" });
    } catch {
      this.#say(this.#words("away"));
      return null;
    }
    const said = answer.headers.get("Content-Type")?.startsWith("application/json") ? await answer.json() : {};
    if (answer.ok && said.until) {
      const until = this.querySelector("[data-until]");
      if (until) until.textContent = this.#time(said.until);
    }
    if (answer.ok && said.here !== void 0) this.#here(said.here);
    if (answer.ok) return said;
    if (answer.status === 401) this.#say(this.#words("locked"));
    else if (answer.status >= 500 || answer.status === 429) this.#say(this.#words("away"));
    else this.#refused(fields, said.problem ?? "");
    return null;
  }
  #refused(fields, problem) {
    if (!this.hasAttribute("writes")) return;
    this.#stopped = true;
    this.#say(this.#words(fields.renew ? "ended" : "unsaved") + problem);
    this.#told?.classList.add("alert");
  }
  #body(fields) {
    const own = { token: this.#field("token").value, made_from: this.#field("made_from").value };
    return new URLSearchParams({ ...own, ...fields });
  }
  #field(name) {
    return this.#form.elements.namedItem(name);
  }
  #leave() {
    if (this.#leaving || !this.#form) return;
    const unsaved = this.#kept !== void 0 && !this.#stopped && this.#unsaved;
    let body = this.#body(unsaved ? { typed: "yes", text: this.#text, leave: "yes" } : { leave: "yes" });
    if (body.toString().length > BEACON_BYTES) body = this.#body({ leave: "yes" });
    navigator.sendBeacon(this.#words("keep"), body);
  }
  #here(names) {
    const at = document.querySelector("[data-here]");
    if (at) at.textContent = names && this.#words("also") + names;
  }
  #key(event) {
    const key = event.key.toLowerCase();
    if (key === "n" && lettersCount(event) && !event.ctrlKey && !event.altKey && !event.metaKey) {
      document.querySelector("[data-key=next]")?.click();
      return;
    }
    const name = !event.ctrlKey ? "" : key === "s" && !event.shiftKey ? "save" : key === "enter" ? "complete" : key === "l" && event.shiftKey ? "release" : "";
    const button = name && this.querySelector(`[data-key=${name}]`);
    if (!button) return;
    event.preventDefault();
    const kind = this.querySelector("[name=read_type]");
    if (name === "complete" && kind && !this.querySelector("[name=read_type]:checked")) kind.focus();
    else button.click();
  }
  #time(iso) {
    return new Date(iso).toLocaleTimeString("en-GB", { timeZone: this.#words("zone") });
  }
  #words(name) {
    return this.getAttribute(name) ?? "";
  }
  #say(text) {
    if (this.#told) this.#told.textContent = text;
  }
};
customElements.define("draft-keeper", DraftKeeper);

// elements/invitation.ts
function readInvitation() {
  const field = document.querySelector("input[name=code]");
  const code = location.hash.slice(1);
  if (!field || !code) return;
  field.value = code;
  history.replaceState(null, "", location.pathname);
  document.querySelector("input[name=password]")?.focus();
}

// elements/main.ts
document.documentElement.dataset.script = "";
readInvitation();
