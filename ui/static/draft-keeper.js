// <draft-keeper>: saves what somebody writes a second after they pause, and renews their lock while the page is open.
// The form within works without it. What it says stands in its attributes; the server's refusals are said as they come.
const PAUSE_MS = 1000; // of typing, before it is saved
const AT_LATEST_MS = 5000; // while somebody types on and on
const TICK_MS = 60000; // the lock is renewed, which lasts five minutes; who else is at the case is asked
const RETRY_MS = 5000; // after no answer
const BEACON_BYTES = 60000; // what a browser sends for a page that goes is 64 KiB at most

class DraftKeeper extends HTMLElement {
  connectedCallback() {
    this.form = this.querySelector("form");
    this.area = this.form?.elements.text;
    this.told = this.querySelector("[data-told]");
    document.addEventListener("keydown", event => this.#key(event));
    addEventListener("pagehide", () => this.#leave());
    this.renewing = setInterval(() => this.#tick(), TICK_MS);
    if (!this.hasAttribute("writes") || !this.area) return;
    this.kept = this.area.value;
    this.stopped = false; // after a refusal: the person decides, by sending the form
    this.leaving = false;
    this.area.addEventListener("input", () => this.#typed());
    this.area.addEventListener("blur", () => this.#keep());
    this.form.addEventListener("submit", () => { this.leaving = true; });
    addEventListener("beforeunload", event => { if (this.#unsaved && !this.leaving) event.preventDefault(); });
    addEventListener("pageshow", event => { if (event.persisted) location.reload(); });
  }

  #tick() {
    const writes = this.hasAttribute("writes") && !this.stopped;
    this.#ask(writes ? { here: "yes", renew: "yes" } : { here: "yes" });
  }

  get #unsaved() { return this.area.value !== this.kept && this.area.value.trim() !== ""; }

  #typed() {
    clearTimeout(this.pause);
    this.pause = setTimeout(() => this.#keep(), PAUSE_MS);
    this.latest ??= setTimeout(() => this.#keep(), AT_LATEST_MS);
  }

  async #keep() {
    clearTimeout(this.pause);
    clearTimeout(this.latest);
    this.latest = undefined;
    if (this.stopped || !this.#unsaved) return;
    if (this.asking) { this.again = true; return; }
    const text = this.area.value;
    this.#say(this.getAttribute("saving"));
    this.asking = true;
    const said = await this.#ask({ typed: "yes", text });
    this.asking = false;
    if (said?.made_from) {
      this.kept = text;
      this.form.elements.made_from.value = said.made_from;
      this.#say(this.getAttribute("saved") + this.#time(said.saved));
    } else if (!this.stopped) {
      this.pause = setTimeout(() => this.#keep(), RETRY_MS);
    }
    if (this.again) { this.again = false; this.#keep(); }
  }

  async #ask(fields) {
    let answer;
    try {
      answer = await fetch(this.getAttribute("keep"), { method: "POST", body: this.#body(fields), redirect: "manual" });
    } catch {
      this.#say(this.getAttribute("away"));
      return null;
    }
    const said = answer.headers.get("Content-Type")?.startsWith("application/json") ? await answer.json() : {};
    if (answer.ok && said.until) {
      const until = this.querySelector("[data-until]");
      if (until) until.textContent = this.#time(said.until);
    }
    if (answer.ok && "here" in said) this.#here(said.here);
    if (answer.ok) return said;
    if (answer.status === 401) this.#say(this.getAttribute("locked"));
    else if (answer.status >= 500 || answer.status === 429) this.#say(this.getAttribute("away"));
    else this.#refused(fields, said.problem ?? "");
    return null;
  }

  #refused(fields, problem) {
    if (!this.hasAttribute("writes")) return;
    this.stopped = true;
    this.#say(this.getAttribute(fields.renew ? "ended" : "unsaved") + problem);
    this.told?.classList.add("alert");
  }

  #body(fields) {
    const { token, made_from } = this.form.elements;
    return new URLSearchParams({ token: token.value, made_from: made_from.value, ...fields });
  }

  #leave() {
    if (this.leaving || !this.form) return;
    const unsaved = this.kept !== undefined && !this.stopped && this.#unsaved;
    let body = this.#body(unsaved ? { typed: "yes", text: this.area.value, leave: "yes" } : { leave: "yes" });
    if (body.toString().length > BEACON_BYTES) body = this.#body({ leave: "yes" });
    navigator.sendBeacon(this.getAttribute("keep"), body);
  }

  #here(names) {
    const at = document.querySelector("[data-here]");
    if (at) at.textContent = names && this.getAttribute("also") + names;
  }

  #key(event) {
    const key = event.key.toLowerCase();
    const types = event.target.closest("textarea, input:not([type=radio]), select");
    if (key === "n" && !types && !event.ctrlKey && !event.altKey && !event.metaKey) {
      document.querySelector("[data-key=next]")?.click();
      return;
    }
    const name = !event.ctrlKey ? "" : key === "s" && !event.shiftKey ? "save" : key === "enter" ? "complete"
      : key === "l" && event.shiftKey ? "release" : "";
    const button = name && this.querySelector(`[data-key=${name}]`);
    if (!button) return;
    event.preventDefault();
    const kind = this.form.querySelector("[name=read_type]");
    if (name === "complete" && kind && !this.form.querySelector("[name=read_type]:checked")) kind.focus();
    else button.click();
  }

  #time(iso) {
    const zone = this.getAttribute("zone");
    return new Date(iso).toLocaleTimeString("en-GB", { timeZone: zone });
  }

  #say(text) { if (this.told) this.told.textContent = text; }
}

customElements.define("draft-keeper", DraftKeeper);
