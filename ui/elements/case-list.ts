// <case-list>: a list of cases that is live, and of any length. The table within works without it.
import { type Fields, type News, ask, send } from "./asking";
import { Choice } from "./choice";
import { Standing } from "./focus";
import { Follower, type Followed, type State } from "./follower";
import { listen } from "./keys";
import { type Page, Pages } from "./pages";
import { RowMenu } from "./row-menu";
import { Rows } from "./rows";
import { since } from "./time";

const TICK_MS = 1000;
const ASK_EVERY_MS = 15000;
const ANNOUNCE_EVERY_MS = 30000;
const HERE_EVERY_MS = 60000;

class CaseList extends HTMLElement implements Followed {
  #rows: Rows | null = null;
  #pages: Pages | null = null;
  #standing: Standing | null = null;
  #choice: Choice | null = null;
  #menu: RowMenu | null = null;
  #known = new Set<string>(); // cases that have been shown
  #followed = new Map<string, string>(); // the first rows of the list, as they were told: their digests
  #state: State | "" = "";
  #heard = 0;
  #announced = -ANNOUNCE_EVERY_MS;
  #here = 0;

  connectedCallback(): void {
    const table = this.querySelector<HTMLTableElement>("table");
    if (table) void this.#begin(table);
    this.#keys();
    this.#part("fresh")?.addEventListener("click", () => void this.#showFresh());
    setInterval(() => this.#tick(), TICK_MS);
    setInterval(() => void this.#askAgain(), ASK_EVERY_MS);
    for (const sign of ["keydown", "pointerdown"]) addEventListener(sign, () => this.#isHere());
    addEventListener("pageshow", event => { if (event.persisted) location.reload(); });
    void this.#count();
    new Follower(this, !this.#words("page"));
  }

  async #begin(table: HTMLTableElement): Promise<void> {
    const rows = this.#rows = new Rows(table, this.#words("left"));
    const page = { body: table.tBodies[0]!, token: this.#words("page"), previous: this.#words("previous"), next: this.#words("next") };
    const pages = this.#pages = new Pages(table, table.closest<HTMLElement>(".scroll")!, this, page);
    const tokenOf = (row: HTMLTableRowElement) => pages.all.find(({ body }) => body.contains(row))?.token ?? "";
    const standing = this.#standing = new Standing(rows, this.#words("view"), tokenOf);
    const [menu, bar] = [this.#part("menu"), this.#part("choice")];
    if (menu) this.#menu = new RowMenu(menu, table, row => standing.leave(row));
    if (bar) this.#choice = new Choice(rows, bar, this.#words("chosen"));
    rows.all.forEach(({ dataset }) => this.#followed.set(dataset.case!, dataset.is!));
    this.changed();
    const [caseId, token] = Standing.cameFrom(this.#words("view"));
    if (caseId && !rows.of(caseId) && token) await pages.start(token);
    if (caseId) standing.go(rows.of(caseId));
    await pages.fill();
  }

  // What is asked for, whichever page.
  named(): Fields { return { view: this.#words("view"), zone: this.#words("zone") }; }

  // What is built has changed.
  changed(): void {
    this.#standing?.settle();
    this.#choice?.show();
    const caseIds = this.#rows?.all.map(row => row.dataset.case!) ?? [];
    caseIds.forEach(caseId => this.#known.add(caseId));
    void send("/shown", { ...this.named(), cases: caseIds.join() }).catch(() => null);
  }

  fields(): Fields {
    const held = [...this.#followed].map(([caseId, digest]) => `${caseId}:${this.#rows?.of(caseId)?.dataset.is ?? digest}`);
    return { ...this.named(), page: this.#words("page"), held: held.join() };
  }

  show(news: News): void {
    this.#rows?.show(news);
    this.#choice?.drop(news.gone ?? []);
    this.#standing?.settle();
    if (!news.order) return;
    const digest = (caseId: string) => news.parts?.[caseId]?.[1]["data-is"] ?? this.#followed.get(caseId) ?? "";
    this.#followed = new Map(news.order.map(caseId => [caseId, digest(caseId)]));
    const last = news.order.findLastIndex(caseId => this.#known.has(caseId));
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

  told(state: State): void {
    if (state !== "lost") this.#heard = Date.now();
    else if (this.#state !== "lost") this.#say(this.#lost());
    this.#state = state;
    this.#tick();
  }

  // What no stream follows, and is seen: pages further down, and rows that others have pushed down.
  async #askAgain(): Promise<void> {
    if (document.hidden || !this.#rows || !this.#pages || this.#state === "lost") return;
    const isFollowed = (row: HTMLTableRowElement) => this.#followed.has(row.dataset.case!);
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

  #rowsOf({ body }: Page): HTMLTableRowElement[] {
    return [...body.querySelectorAll<HTMLTableRowElement>("tr[data-case]")];
  }

  // The list from its top, as it is now; whoever stands on a case that is there stays on it.
  async #showFresh(): Promise<void> {
    if (!this.#rows || !this.#pages) return location.reload();
    const stood = this.#standing?.isOnRow ? this.#standing.row?.dataset.case : "";
    if (!await this.#pages.start()) return;
    this.show({ order: [...this.#followed.keys()] });
    this.#standing?.go(stood && this.#rows.of(stood) || this.#rows.all[0]);
  }

  #keys(): void {
    const help = this.#part("help") as HTMLDialogElement | null;
    document.querySelectorAll("[data-opens=help]").forEach(each => each.addEventListener("click", () => help?.showModal()));
    const search = document.querySelector<HTMLInputElement>("input[type=search]");
    const move = (by: number) => () => void this.#move(by);
    const choose = (by: number) => async () => {
      this.#choice?.add(this.#standing!.row);
      await this.#move(by);
      this.#choice?.add(this.#standing!.row);
    };
    const screen = () => Math.max(1, Math.floor(this.querySelector(".scroll")!.clientHeight / 40));
    listen({
      letters: {
        j: move(1), k: move(-1), n: () => this.#next(), m: () => this.#menu?.open(this.#standing?.row ?? null),
        x: () => this.#choice?.toggle(this.#standing?.row ?? null), " ": () => this.#choice?.toggle(this.#standing?.row ?? null),
        ".": () => void this.#showFresh(), "?": () => help?.showModal(), "/": () => { search?.focus(); search?.select(); },
      },
      others: {
        ArrowDown: move(1), ArrowUp: move(-1), "Shift+ArrowDown": choose(1), "Shift+ArrowUp": choose(-1), End: move(Infinity),
        PageDown: () => void this.#move(screen()), PageUp: () => void this.#move(-screen()), Home: () => void this.#home(),
      },
    }, () => this.#standing?.isOnRow ?? false);
  }

  async #move(by: number): Promise<void> {
    if (this.#standing?.move(by) || !this.#pages) return;
    if (Number.isFinite(by) && await (by > 0 ? this.#pages.down() : this.#pages.up())) this.#standing?.move(Math.sign(by));
  }

  async #home(): Promise<void> {
    if (this.#pages && !this.#pages.isAtTop) await this.#pages.start();
    this.#standing?.go(this.#rows?.all[0]);
  }

  // The next case that waits for somebody, and that nobody has locked.
  #next(): void {
    const all = this.#rows?.all ?? [];
    const at = this.#standing?.isOnRow && this.#standing.row ? all.indexOf(this.#standing.row) : -1;
    const next = all.slice(at + 1).find(row => "free" in row.dataset);
    if (next) this.#standing?.go(next);
    else this.#say(this.#words("none"));
  }

  // Where counting took longer than a page waits for it.
  async #count(): Promise<void> {
    const at = this.querySelector(".count");
    if (!at || at.textContent) return;
    const answer = await send("/count", this.named()).catch(() => null);
    if (answer) at.textContent = (await answer.json() as Fields).count ?? "";
  }

  // A session is locked when its person does nothing for long; moving in a list asks for no page.
  #isHere(): void {
    if (Date.now() - this.#here < HERE_EVERY_MS) return;
    this.#here = Date.now();
    void send("/here", { typed: "yes" }).catch(() => null);
  }

  #tick(): void {
    const at = this.#part("live");
    if (!at || !this.#state) return;
    const seconds = Math.round((Date.now() - this.#heard) / 1000);
    const text = this.#state === "lost" ? this.#lost()
      : seconds < 4 ? this.#words("now") : this.#words("updated").replace("{}", String(seconds));
    if (at.textContent !== text) at.textContent = text;
    at.dataset.state = this.#state;
    for (const time of this.querySelectorAll("time")) {
      const text = since(time.dateTime);
      if (time.textContent !== text) time.textContent = text;
    }
  }

  #lost(): string {
    const at = new Date(this.#heard || performance.timeOrigin);
    const time = at.toLocaleTimeString("en-GB", { timeZone: this.#words("zone"), timeStyle: "short" });
    return this.#words("lost").replace("{}", time);
  }

  #say(text: string): void {
    const at = this.#part("said");
    if (at) at.textContent = text;
  }

  #part(name: string): HTMLElement | null { return document.querySelector(`[data-list=${name}]`); }

  #words(name: string): string { return this.getAttribute(name) ?? ""; }
}

customElements.define("case-list", CaseList);
