// Built by `make ui`, never edited: e5ceab27fe7a99cad206e4faf1cf1a997acec112ca173090dfa508674d7aa284 49babd280d63b9836410f378df30a9ba9fab7814eb373471efdddc5c1b3f5739
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
  constructor(rows, view, tokenOf) {
    this.rows = rows;
    this.view = view;
    this.tokenOf = tokenOf;
    this.settle();
    rows.table.addEventListener("focusin", (event) => this.#take(rowOf(event.target)));
    rows.table.addEventListener("click", (event) => {
      const opened = event.target instanceof Element && event.target.closest("a");
      if (opened) this.leave(rowOf(opened));
    });
  }
  rows;
  view;
  tokenOf;
  get row() {
    return rowOf(document.activeElement) ?? rowOf(this.rows.table.querySelector("a[tabindex='0']"));
  }
  get isOnRow() {
    return this.rows.table.contains(document.activeElement);
  }
  go(row) {
    row?.querySelector("a")?.focus();
  }
  // From where somebody stands so many rows down; who stands nowhere begins at the first. Whether there was a row.
  move(by) {
    const all = this.rows.all;
    const at = this.row ? all.indexOf(this.row) : -1;
    if (!this.isOnRow) this.go(this.row ?? all[0]);
    else this.go(all[Math.min(Math.max(at + by, 0), all.length - 1)]);
    return at + by >= 0 && at + by < all.length;
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
    if (row) sessionStorage.setItem(BACK, [this.view, row.dataset.case, this.tokenOf(row)].join(" "));
  }
  // The case that somebody opened from this list and comes back from, and the token of its page; once.
  static cameFrom(view) {
    const [kept, caseId, token2] = (sessionStorage.getItem(BACK) ?? "").split(" ");
    sessionStorage.removeItem(BACK);
    return kept === view && caseId ? [caseId, token2 ?? ""] : ["", ""];
  }
  #take(row) {
    const link = row?.querySelector("a");
    if (!link || link.tabIndex === 0) return;
    for (const other of this.rows.table.querySelectorAll("a[tabindex='0']")) other.setAttribute("tabindex", "-1");
    link.tabIndex = 0;
  }
};
function rowOf(at) {
  return at instanceof Element ? at.closest("tr[data-case]") : null;
}

// elements/choice.ts
var Choice = class {
  constructor(rows, bar, told) {
    this.rows = rows;
    this.bar = bar;
    this.told = told;
    rows.table.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || !event.shiftKey || !rowOf(event.target)) return;
      event.preventDefault();
      this.toggle(rowOf(event.target));
    });
    bar.querySelector("[data-clears]")?.addEventListener("click", () => this.clear());
  }
  rows;
  bar;
  told;
  #chosen = /* @__PURE__ */ new Set();
  toggle(row) {
    const caseId = row?.dataset.case;
    if (!caseId) return;
    if (!this.#chosen.delete(caseId)) this.#chosen.add(caseId);
    this.show();
  }
  add(row) {
    if (row?.dataset.case) this.#chosen.add(row.dataset.case);
    this.show();
  }
  drop(caseIds) {
    caseIds.forEach((caseId) => this.#chosen.delete(caseId));
    if (caseIds.length) this.show();
  }
  clear() {
    const hadFocus = this.bar.contains(document.activeElement);
    this.#chosen.clear();
    this.show();
    if (hadFocus) this.rows.all[0]?.querySelector("a")?.focus({ preventScroll: true });
  }
  // Marks the rows that are built; the bar says how many are chosen at all.
  show() {
    for (const row of this.rows.all) {
      if (this.#chosen.has(row.dataset.case)) row.dataset.chosen = "";
      else delete row.dataset.chosen;
    }
    this.bar.hidden = this.#chosen.size === 0;
    this.bar.querySelector("[data-told]").textContent = this.told.replace("{}", String(this.#chosen.size));
    this.bar.querySelector("[name=cases]").value = [...this.#chosen].join();
  }
};

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

// elements/pages.ts
var MOST = 4;
var NEAR = 1;
var Pages = class {
  constructor(table, frame, list, first) {
    this.frame = frame;
    this.list = list;
    this.#built = [first];
    first.body.before(this.#above);
    first.body.after(this.#below);
    table.setAttribute("aria-rowcount", "-1");
    frame.addEventListener("scroll", () => void this.fill());
    new ResizeObserver(() => void this.fill()).observe(frame);
  }
  frame;
  list;
  #built;
  #above = gap();
  #below = gap();
  #coming = null;
  get all() {
    return this.#built;
  }
  get first() {
    return this.#built[0];
  }
  get isAtTop() {
    return this.first.previous === "";
  }
  // Those of which something is in the window.
  get seen() {
    const { top, bottom } = this.frame.getBoundingClientRect();
    return this.#built.filter(({ body }) => {
      const box = body.getBoundingClientRect();
      return box.bottom > top && box.top < bottom;
    });
  }
  // Builds pages until there are enough around what is seen.
  async fill() {
    while (this.#coming === null) {
      const { scrollTop, clientHeight } = this.frame;
      const from = this.#above.offsetHeight;
      const to = this.#built.reduce((height, page) => height + page.body.offsetHeight, from);
      const up = scrollTop < from + NEAR * clientHeight && !this.isAtTop;
      const down = scrollTop + clientHeight > to - NEAR * clientHeight && this.#built.at(-1).next !== "";
      const isFar = up && scrollTop + clientHeight < from;
      if (!(isFar && scrollTop < clientHeight ? await this.start() : down ? await this.down() : up && await this.up())) return;
    }
  }
  down() {
    return this.#once(() => this.#extend(true));
  }
  up() {
    return this.#once(() => this.#extend(false));
  }
  // Begins anew with the page of a token; without one with the first.
  async start(token2 = "") {
    while (this.#coming) await this.#coming;
    return this.#once(async () => {
      const page = await this.#ask(token2);
      if (!page) return false;
      const before = this.#built.splice(0, this.#built.length, page);
      this.#above.after(page.body);
      before.forEach(({ body }) => body.remove());
      set(this.#above, 0);
      set(this.#below, 0);
      this.frame.scrollTo({ top: 0 });
      this.list.changed();
      return true;
    });
  }
  async #once(act) {
    if (this.#coming) return this.#coming;
    this.#coming = act();
    try {
      return await this.#coming;
    } finally {
      this.#coming = null;
    }
  }
  async #extend(down) {
    const end = down ? this.#built.at(-1) : this.first;
    const token2 = down ? end.next : end.previous;
    const page = token2 ? await this.#ask(token2) : null;
    if (!page) return false;
    const anchor = end.body.getBoundingClientRect().top;
    if (down) end.body.after(page.body);
    else end.body.before(page.body);
    this.#built[down ? "push" : "unshift"](page);
    const height = page.body.offsetHeight;
    const into = down ? this.#below : this.#above;
    set(into, (down ? page.next : page.previous) ? Math.max(0, into.offsetHeight - height) : 0);
    if (this.#built.length > MOST) this.#drop(down ? this.#built.shift() : this.#built.pop(), down ? this.#above : this.#below);
    this.frame.scrollTop += end.body.isConnected ? end.body.getBoundingClientRect().top - anchor : 0;
    this.list.changed();
    return true;
  }
  // The focus is never lost: it goes to the row that is seen first.
  #drop({ body }, to) {
    const focused = body.contains(document.activeElement);
    set(to, to.offsetHeight + body.offsetHeight);
    body.remove();
    if (focused) this.seen[0]?.body.querySelector("a")?.focus({ preventScroll: true });
  }
  async #ask(token2) {
    const news = await ask("/rows", { ...this.list.named(), page: token2, held: "" }).catch(() => null);
    return news ? pageOf(news, token2) : null;
  }
};
function pageOf(news, token2) {
  const body = document.createElement("tbody");
  body.append(...(news.order ?? []).flatMap((caseId) => news.parts?.[caseId] ? [grow(news.parts[caseId])] : []));
  return { body, token: token2, previous: news.previous ?? "", next: news.next ?? "" };
}
function gap() {
  const body = document.createElement("tbody");
  body.className = "gap";
  body.ariaHidden = "true";
  body.insertRow().insertCell().colSpan = 100;
  set(body, 0);
  return body;
}
function set(gap2, height) {
  gap2.hidden = height === 0;
  gap2.rows[0].cells[0].style.height = `${height}px`;
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
      if (!button) return;
      const { left, bottom } = button.getBoundingClientRect();
      this.open(rowOf(button), left, bottom + GAP);
    });
    menu.addEventListener("keydown", (event) => this.#key(event));
    menu.addEventListener("click", (event) => {
      if (!this.#row) return;
      this.leave(this.#row);
      this.#post(event, this.#row);
    });
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
  // An act that a free case allows at once, such as to lock it and write; else its item leads to the page.
  #post(event, row) {
    const item = event.target instanceof Element && event.target.closest("a[data-posts]");
    if (!item || row.dataset.free === void 0 || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const form = this.menu.querySelector("form");
    form.action = `/cases/${row.dataset.case}${item.dataset.posts}`;
    form.submit();
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

// elements/rows.ts
var LEAVES_AFTER_MS = 4e3;
var Rows = class {
  constructor(table, left) {
    this.table = table;
    this.left = left;
  }
  table;
  left;
  get all() {
    return [...this.table.querySelectorAll("tr[data-case]")];
  }
  of(caseId) {
    return this.table.querySelector(`tr[data-case="${CSS.escape(caseId)}"]`);
  }
  // Changes what is there.
  show(news) {
    for (const [caseId, tree] of Object.entries(news.parts ?? {})) this.#change(caseId, tree);
    for (const caseId of news.gone ?? []) this.#leave(this.of(caseId));
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
    if (before.dataset.chosen !== void 0) after.dataset.chosen = "";
  }
  // Nothing of the case stays; the row goes a little later, and takes the focus to the next.
  #leave(row) {
    if (!row) return;
    const cells = row.cells.length;
    const note = grow(["td", { class: "left", colspan: String(cells) }, ["span", { tabindex: "-1" }, this.left]]);
    const focused = row.contains(document.activeElement);
    delete row.dataset.case;
    row.className = "left";
    delete row.dataset.chosen;
    row.replaceChildren(note);
    if (focused) note.querySelector("span")?.focus({ preventScroll: true });
    setTimeout(() => {
      const next = row.nextElementSibling ?? row.previousElementSibling;
      if (row.contains(document.activeElement)) next?.querySelector("a")?.focus({ preventScroll: true });
      row.remove();
    }, LEAVES_AFTER_MS);
  }
};

// elements/time.ts
function since(instant) {
  const minutes = Math.max(0, Math.floor((Date.now() - Date.parse(instant)) / 6e4));
  if (minutes < 120) return `${minutes} min`;
  return minutes < 48 * 60 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / 1440)} d`;
}

// elements/case-list.ts
var TICK_MS = 1e3;
var ASK_EVERY_MS2 = 15e3;
var ANNOUNCE_EVERY_MS = 3e4;
var HERE_EVERY_MS = 6e4;
var CaseList = class extends HTMLElement {
  #rows = null;
  #pages = null;
  #standing = null;
  #choice = null;
  #menu = null;
  #known = /* @__PURE__ */ new Set();
  // cases that have been shown
  #followed = /* @__PURE__ */ new Map();
  // the first rows of the list, as they were told: their digests
  #state = "";
  #heard = 0;
  #announced = -ANNOUNCE_EVERY_MS;
  #here = 0;
  connectedCallback() {
    const table = this.querySelector("table");
    if (table) void this.#begin(table);
    this.#keys();
    this.#part("fresh")?.addEventListener("click", () => void this.#showFresh());
    setInterval(() => this.#tick(), TICK_MS);
    setInterval(() => void this.#askAgain(), ASK_EVERY_MS2);
    for (const sign of ["keydown", "pointerdown"]) addEventListener(sign, () => this.#isHere());
    addEventListener("pageshow", (event) => {
      if (event.persisted) location.reload();
    });
    void this.#count();
    new Follower(this, !this.#words("page"));
  }
  async #begin(table) {
    const rows = this.#rows = new Rows(table, this.#words("left"));
    const page = { body: table.tBodies[0], token: this.#words("page"), previous: this.#words("previous"), next: this.#words("next") };
    const pages = this.#pages = new Pages(table, table.closest(".scroll"), this, page);
    const tokenOf = (row) => pages.all.find(({ body }) => body.contains(row))?.token ?? "";
    const standing = this.#standing = new Standing(rows, this.#words("view"), tokenOf);
    const [menu, bar] = [this.#part("menu"), this.#part("choice")];
    if (menu) this.#menu = new RowMenu(menu, table, (row) => standing.leave(row));
    if (bar) this.#choice = new Choice(rows, bar, this.#words("chosen"));
    rows.all.forEach(({ dataset }) => this.#followed.set(dataset.case, dataset.is));
    this.changed();
    const [caseId, token2] = Standing.cameFrom(this.#words("view"));
    if (caseId && !rows.of(caseId) && token2) await pages.start(token2);
    if (caseId) standing.go(rows.of(caseId));
    await pages.fill();
  }
  // What is asked for, whichever page.
  named() {
    return { view: this.#words("view"), zone: this.#words("zone") };
  }
  // What is built has changed.
  changed() {
    this.#standing?.settle();
    this.#choice?.show();
    const caseIds = this.#rows?.all.map((row) => row.dataset.case) ?? [];
    caseIds.forEach((caseId) => this.#known.add(caseId));
    void send("/shown", { ...this.named(), cases: caseIds.join() }).catch(() => null);
  }
  fields() {
    const held = [...this.#followed].map(([caseId, digest]) => `${caseId}:${this.#rows?.of(caseId)?.dataset.is ?? digest}`);
    return { ...this.named(), page: this.#words("page"), held: held.join() };
  }
  show(news) {
    this.#rows?.show(news);
    this.#choice?.drop(news.gone ?? []);
    this.#standing?.settle();
    if (!news.order) return;
    const digest = (caseId) => news.parts?.[caseId]?.[1]["data-is"] ?? this.#followed.get(caseId) ?? "";
    this.#followed = new Map(news.order.map((caseId) => [caseId, digest(caseId)]));
    const last = news.order.findLastIndex((caseId) => this.#known.has(caseId));
    const isWhole = !this.#pages || this.#pages.isAtTop && this.#pages.first.next === "";
    const fresh = news.order.filter((caseId, at) => !this.#known.has(caseId) && (isWhole || at < last || last < 0));
    const button = this.#part("fresh");
    if (!button) return;
    button.hidden = fresh.length === 0;
    button.textContent = this.#words("fresh").replace("{}", String(fresh.length));
    if (fresh.length && performance.now() - this.#announced > ANNOUNCE_EVERY_MS) {
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
  // What no stream follows, and is seen: pages further down, and rows that others have pushed down.
  async #askAgain() {
    if (document.hidden || !this.#rows || !this.#pages || this.#state === "lost") return;
    const isFollowed = (row) => this.#followed.has(row.dataset.case);
    for (const page of this.#pages.seen) {
      const rows = this.#rowsOf(page);
      if (rows.every(isFollowed)) continue;
      const held = rows.map(({ dataset }) => `${dataset.case}:${dataset.is}`).join();
      const news = await ask("/rows", { ...this.named(), page: page.token, held }).catch(() => null);
      if (!news) return;
      this.#rows.show(news);
      this.#choice?.drop(news.gone ?? []);
      this.#standing?.settle();
    }
  }
  #rowsOf({ body }) {
    return [...body.querySelectorAll("tr[data-case]")];
  }
  // The list from its top, as it is now; whoever stands on a case that is there stays on it.
  async #showFresh() {
    if (!this.#rows || !this.#pages) return location.reload();
    const stood = this.#standing?.isOnRow ? this.#standing.row?.dataset.case : "";
    if (!await this.#pages.start()) return;
    this.show({ order: [...this.#followed.keys()] });
    this.#standing?.go(stood && this.#rows.of(stood) || this.#rows.all[0]);
  }
  #keys() {
    const help = this.#part("help");
    document.querySelectorAll("[data-opens=help]").forEach((each) => each.addEventListener("click", () => help?.showModal()));
    const search = document.querySelector("input[type=search]");
    const move = (by) => () => void this.#move(by);
    const choose = (by) => async () => {
      this.#choice?.add(this.#standing.row);
      await this.#move(by);
      this.#choice?.add(this.#standing.row);
    };
    const screen = () => Math.max(1, Math.floor(this.querySelector(".scroll").clientHeight / 40));
    listen({
      letters: {
        j: move(1),
        k: move(-1),
        n: () => this.#next(),
        m: () => this.#menu?.open(this.#standing?.row ?? null),
        x: () => this.#choice?.toggle(this.#standing?.row ?? null),
        " ": () => this.#choice?.toggle(this.#standing?.row ?? null),
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
        "Shift+ArrowDown": choose(1),
        "Shift+ArrowUp": choose(-1),
        End: move(Infinity),
        PageDown: () => void this.#move(screen()),
        PageUp: () => void this.#move(-screen()),
        Home: () => void this.#home()
      }
    }, () => this.#standing?.isOnRow ?? false);
  }
  async #move(by) {
    if (this.#standing?.move(by) || !this.#pages) return;
    if (Number.isFinite(by) && await (by > 0 ? this.#pages.down() : this.#pages.up())) this.#standing?.move(Math.sign(by));
  }
  async #home() {
    if (this.#pages && !this.#pages.isAtTop) await this.#pages.start();
    this.#standing?.go(this.#rows?.all[0]);
  }
  // The next case that waits for somebody, and that nobody has locked.
  #next() {
    const all = this.#rows?.all ?? [];
    const at = this.#standing?.isOnRow && this.#standing.row ? all.indexOf(this.#standing.row) : -1;
    const next = all.slice(at + 1).find((row) => "free" in row.dataset);
    if (next) this.#standing?.go(next);
    else this.#say(this.#words("none"));
  }
  // Where counting took longer than a page waits for it.
  async #count() {
    const at = this.querySelector(".count");
    if (!at || at.textContent) return;
    const answer = await send("/count", this.named()).catch(() => null);
    if (answer) at.textContent = (await answer.json()).count ?? "";
  }
  // A session is locked when its person does nothing for long; moving in a list asks for no page.
  #isHere() {
    if (Date.now() - this.#here < HERE_EVERY_MS) return;
    this.#here = Date.now();
    void send("/here", { typed: "yes" }).catch(() => null);
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
    const time = at.toLocaleTimeString("en-GB", { timeZone: this.#words("zone"), timeStyle: "short" });
    return this.#words("lost").replace("{}", time);
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
