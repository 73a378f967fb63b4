// <draft-keeper>: saves what somebody writes a second after they pause, and renews their lock while the page is open.
// The form within works without it. What it says stands in its attributes; the server's refusals are said as they come.
import { lettersCount } from "./keys";

const PAUSE_MS = 1000; // of typing, before it is saved
const AT_LATEST_MS = 5000; // while somebody types on and on
const TICK_MS = 60000; // the lock is renewed, which lasts five minutes; who else is at the case is asked
const RETRY_MS = 5000; // after no answer
const BEACON_BYTES = 60000; // what a browser sends for a page that goes is 64 KiB at most

type Fields = Record<string, string>;

class DraftKeeper extends HTMLElement {
  #form: HTMLFormElement | null = null;
  #area: HTMLTextAreaElement | null = null;
  #told: HTMLElement | null = null;
  #kept: string | undefined;
  #stopped = false; // after a refusal: the person decides, by sending the form
  #leaving = false;
  #asking = false;
  #again = false;
  #pause: number | undefined;
  #latest: number | undefined;

  connectedCallback(): void {
    this.#form = this.querySelector("form");
    this.#area = this.querySelector("textarea[name=text]");
    this.#told = this.querySelector("[data-told]");
    document.addEventListener("keydown", event => this.#key(event));
    addEventListener("pagehide", () => this.#leave());
    setInterval(() => this.#tick(), TICK_MS);
    if (!this.hasAttribute("writes") || !this.#area) return;
    this.#kept = this.#area.value;
    this.#area.addEventListener("input", () => this.#typed());
    this.#area.addEventListener("blur", () => this.#keep());
    this.#form?.addEventListener("submit", () => { this.#leaving = true; });
    addEventListener("beforeunload", event => { if (this.#unsaved && !this.#leaving) event.preventDefault(); });
    addEventListener("pageshow", event => { if (event.persisted) location.reload(); });
  }

  #tick(): void {
    const writes = this.hasAttribute("writes") && !this.#stopped;
    void this.#ask(writes ? { here: "yes", renew: "yes" } : { here: "yes" });
  }

  get #text(): string { return this.#area?.value ?? ""; }

  get #unsaved(): boolean { return this.#text !== this.#kept && this.#text.trim() !== ""; }

  #typed(): void {
    clearTimeout(this.#pause);
    this.#pause = setTimeout(() => this.#keep(), PAUSE_MS);
    this.#latest ??= setTimeout(() => this.#keep(), AT_LATEST_MS);
  }

  async #keep(): Promise<void> {
    clearTimeout(this.#pause);
    clearTimeout(this.#latest);
    this.#latest = undefined;
    if (this.#stopped || !this.#unsaved) return;
    if (this.#asking) { this.#again = true; return; }
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
    if (this.#again) { this.#again = false; void this.#keep(); }
  }

  async #ask(fields: Fields): Promise<Fields | null> {
    let answer: Response;
    try {
      answer = await fetch(this.#words("keep"), { method: "POST", body: this.#body(fields), redirect: "manual" });
    } catch {
      this.#say(this.#words("away"));
      return null;
    }
    const said: Fields = answer.headers.get("Content-Type")?.startsWith("application/json") ? await answer.json() : {};
    if (answer.ok && said.until) {
      const until = this.querySelector("[data-until]");
      if (until) until.textContent = this.#time(said.until);
    }
    if (answer.ok && said.here !== undefined) this.#here(said.here);
    if (answer.ok) return said;
    if (answer.status === 401) this.#say(this.#words("locked"));
    else if (answer.status >= 500 || answer.status === 429) this.#say(this.#words("away"));
    else this.#refused(fields, said.problem ?? "");
    return null;
  }

  #refused(fields: Fields, problem: string): void {
    if (!this.hasAttribute("writes")) return;
    this.#stopped = true;
    this.#say(this.#words(fields.renew ? "ended" : "unsaved") + problem);
    this.#told?.classList.add("alert");
  }

  #body(fields: Fields): URLSearchParams {
    const own = { token: this.#field("token").value, made_from: this.#field("made_from").value };
    return new URLSearchParams({ ...own, ...fields });
  }

  #field(name: string): HTMLInputElement {
    return this.#form!.elements.namedItem(name) as HTMLInputElement;
  }

  #leave(): void {
    if (this.#leaving || !this.#form) return;
    const unsaved = this.#kept !== undefined && !this.#stopped && this.#unsaved;
    let body = this.#body(unsaved ? { typed: "yes", text: this.#text, leave: "yes" } : { leave: "yes" });
    if (body.toString().length > BEACON_BYTES) body = this.#body({ leave: "yes" });
    navigator.sendBeacon(this.#words("keep"), body);
  }

  #here(names: string): void {
    const at = document.querySelector("[data-here]");
    if (at) at.textContent = names && this.#words("also") + names;
  }

  #key(event: KeyboardEvent): void {
    const key = event.key.toLowerCase();
    if (key === "n" && lettersCount(event) && !event.ctrlKey && !event.altKey && !event.metaKey) {
      document.querySelector<HTMLElement>("[data-key=next]")?.click();
      return;
    }
    const name = !event.ctrlKey ? "" : key === "s" && !event.shiftKey ? "save" : key === "enter" ? "complete"
      : key === "l" && event.shiftKey ? "release" : "";
    const button = name && this.querySelector<HTMLElement>(`[data-key=${name}]`);
    if (!button) return;
    event.preventDefault();
    const kind = this.querySelector<HTMLElement>("[name=read_type]");
    if (name === "complete" && kind && !this.querySelector("[name=read_type]:checked")) kind.focus();
    else button.click();
  }

  #time(iso: string): string {
    return new Date(iso).toLocaleTimeString("en-GB", { timeZone: this.#words("zone") });
  }

  #words(name: string): string { return this.getAttribute(name) ?? ""; }

  #say(text: string): void { if (this.#told) this.#told.textContent = text; }
}

customElements.define("draft-keeper", DraftKeeper);
