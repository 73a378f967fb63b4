// <case-list>: a list of cases that is live. The table within works without it.
import { type Fields, type News, ask } from "./asking";
import { Standing } from "./focus";
import { Follower, type Followed } from "./follower";
import { listen } from "./keys";
import { RowMenu } from "./row-menu";
import { Rows } from "./rows";
import { grow } from "./tree";

const TICK_MS = 1000;
const ANNOUNCE_EVERY_MS = 30000;

class CaseList extends HTMLElement implements Followed {
  #rows: Rows | null = null;
  #standing: Standing | null = null;
  #menu: RowMenu | null = null;
  #fresh: string[] = [];
  #state: "live" | "asked" | "lost" | "" = "";
  #heard = 0;
  #announced = -ANNOUNCE_EVERY_MS;

  connectedCallback(): void {
    const body = this.querySelector<HTMLTableSectionElement>("tbody");
    if (body) this.#begin(body);
    this.#keys();
    this.#part("fresh")?.addEventListener("click", () => void this.#showFresh());
    setInterval(() => this.#tick(), TICK_MS);
    addEventListener("pageshow", event => { if (event.persisted) location.reload(); });
    new Follower(this, !this.#words("page"));
  }

  #begin(body: HTMLTableSectionElement): void {
    this.#rows = new Rows(body, this.#words("left"));
    const standing = this.#standing = new Standing(this.#rows, this.#words("view"));
    const menu = this.#part("menu");
    if (menu) this.#menu = new RowMenu(menu, body, row => standing.leave(row));
    const caseId = Standing.cameFrom(this.#words("view"));
    if (caseId) standing.go(this.#rows.of(caseId));
  }

  #keys(): void {
    const help = this.#part("help") as HTMLDialogElement | null;
    document.querySelectorAll("[data-opens=help]").forEach(each => each.addEventListener("click", () => help?.showModal()));
    const search = document.querySelector<HTMLInputElement>("input[type=search]");
    const move = (by: number) => () => this.#standing?.move(by);
    const page = Math.max(1, Math.floor((this.querySelector(".scroll")?.clientHeight ?? 0) / 40));
    listen({
      letters: {
        j: move(1), k: move(-1), n: () => this.#next(), m: () => this.#menu?.open(this.#standing?.row ?? null),
        ".": () => void this.#showFresh(), "?": () => help?.showModal(), "/": () => { search?.focus(); search?.select(); },
      },
      others: {
        ArrowDown: move(1), ArrowUp: move(-1), PageDown: move(page), PageUp: move(-page), Home: move(-Infinity), End: move(Infinity),
      },
    }, () => this.#standing?.isOnRow ?? false);
  }

  // The next case that waits for somebody, and that nobody has locked.
  #next(): void {
    const all = this.#rows?.all ?? [];
    const at = this.#standing?.isOnRow && this.#standing.row ? all.indexOf(this.#standing.row) : -1;
    const next = all.slice(at + 1).find(row => "free" in row.dataset);
    if (next) this.#standing?.go(next);
    else this.#say(this.#words("none"));
  }

  fields(): Fields {
    return { ...this.#named(), page: this.#words("page"), held: this.#rows?.held ?? "" };
  }

  show(news: News): void {
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

  told(state: "live" | "asked" | "lost"): void {
    if (state !== "lost") this.#heard = Date.now();
    else if (this.#state !== "lost") this.#say(this.#lost());
    this.#state = state;
    this.#tick();
  }

  #named(): Fields { return { view: this.#words("view"), zone: this.#words("zone") }; }

  // The first page as it is now; whoever stands on a case stays on it.
  async #showFresh(): Promise<void> {
    if (!this.#rows) return location.reload();
    const stood = document.activeElement?.closest<HTMLElement>("tr[data-case]")?.dataset.case;
    const news = await ask("/rows", { ...this.#named(), page: this.#words("page"), held: "" }).catch(() => null);
    if (!news?.order) return;
    const body = this.#rows.body;
    body.replaceChildren(...news.order.flatMap(caseId => news.parts?.[caseId] ? [grow(news.parts[caseId])] : []));
    body.closest(".scroll")?.scrollTo({ top: 0 });
    this.setAttribute("next", news.next ?? "");
    this.show({ order: news.order });
    const row = stood && this.#rows.of(stood) || this.#rows.all[0];
    this.#standing?.go(row);
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
    const zone = { timeZone: this.#words("zone") };
    return this.#words("lost").replace("{}", at.toLocaleTimeString("en-GB", { ...zone, timeStyle: "short" }));
  }

  #say(text: string): void {
    const at = this.#part("said");
    if (at) at.textContent = text;
  }

  #part(name: string): HTMLElement | null { return document.querySelector(`[data-list=${name}]`); }

  #words(name: string): string { return this.getAttribute(name) ?? ""; }
}

// As web/shown.py writes it.
function since(instant: string): string {
  const minutes = Math.max(0, Math.floor((Date.now() - Date.parse(instant)) / 60000));
  if (minutes < 120) return `${minutes} min`;
  return minutes < 48 * 60 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / 1440)} d`;
}

customElements.define("case-list", CaseList);
