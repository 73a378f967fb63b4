// Built by `make ui`, never edited: 0af33eacf8ed6644f4949050a8fd3b852842363cf5001c1df6b0e68c47d3d255 b6fffdf1b9263291684f571fcdd2a0337e59adb26e54a8f38c2355128e6724da
// elements/draft-keeper.ts
var PAUSE_MS = 1e3;
var AT_LATEST_MS = 5e3;
var TICK_MS = 6e4;
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
    setInterval(() => this.#tick(), TICK_MS);
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
    const types = event.target instanceof Element && event.target.closest("textarea, input:not([type=radio]), select");
    if (key === "n" && !types && !event.ctrlKey && !event.altKey && !event.metaKey) {
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
readInvitation();
