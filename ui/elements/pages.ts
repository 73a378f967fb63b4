// The pages of a list that are built: a few around what is seen, however long the list is. In place of those above and below
// stands a gap as high as they were. Pages hang together by the tokens of their neighbours, so that nothing is left out.
import { type News, ask } from "./asking";
import { grow } from "./tree";

const MOST = 4;
const NEAR = 1; // heights of the window: so far from its end the next page is asked for

export interface Page {
  body: HTMLTableSectionElement;
  token: string; // by which it was asked for; empty: the first
  previous: string;
  next: string;
}

export class Pages {
  readonly #built: Page[];
  readonly #above = gap();
  readonly #below = gap();
  #coming: Promise<boolean> | null = null;

  constructor(
    table: HTMLTableElement,
    private readonly frame: HTMLElement, // what scrolls
    private readonly list: { named(): Record<string, string>; changed(): void },
    first: Page,
  ) {
    this.#built = [first];
    first.body.before(this.#above);
    first.body.after(this.#below);
    table.setAttribute("aria-rowcount", "-1");
    frame.addEventListener("scroll", () => void this.fill());
    new ResizeObserver(() => void this.fill()).observe(frame);
  }

  get all(): readonly Page[] { return this.#built; }

  get first(): Page { return this.#built[0]!; }

  get isAtTop(): boolean { return this.first.previous === ""; }

  // Those of which something is in the window.
  get seen(): Page[] {
    const { top, bottom } = this.frame.getBoundingClientRect();
    return this.#built.filter(({ body }) => {
      const box = body.getBoundingClientRect();
      return box.bottom > top && box.top < bottom;
    });
  }

  // Builds pages until there are enough around what is seen.
  async fill(): Promise<void> {
    while (this.#coming === null) {
      const { scrollTop, clientHeight } = this.frame;
      const from = this.#above.offsetHeight;
      const to = this.#built.reduce((height, page) => height + page.body.offsetHeight, from);
      const up = scrollTop < from + NEAR * clientHeight && !this.isAtTop;
      const down = scrollTop + clientHeight > to - NEAR * clientHeight && this.#built.at(-1)!.next !== "";
      const isFar = up && scrollTop + clientHeight < from;
      if (!(isFar && scrollTop < clientHeight ? await this.start() : down ? await this.down() : up && await this.up())) return;
    }
  }

  down(): Promise<boolean> { return this.#once(() => this.#extend(true)); }

  up(): Promise<boolean> { return this.#once(() => this.#extend(false)); }

  // Begins anew with the page of a token; without one with the first.
  async start(token = ""): Promise<boolean> {
    while (this.#coming) await this.#coming;
    return this.#once(async () => {
      const page = await this.#ask(token);
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

  async #once(act: () => Promise<boolean>): Promise<boolean> {
    if (this.#coming) return this.#coming;
    this.#coming = act();
    try {
      return await this.#coming;
    } finally {
      this.#coming = null;
    }
  }

  async #extend(down: boolean): Promise<boolean> {
    const end = down ? this.#built.at(-1)! : this.first;
    const token = down ? end.next : end.previous;
    const page = token ? await this.#ask(token) : null;
    if (!page) return false;
    const anchor = end.body.getBoundingClientRect().top;
    if (down) end.body.after(page.body);
    else end.body.before(page.body);
    this.#built[down ? "push" : "unshift"](page);
    const height = page.body.offsetHeight;
    const into = down ? this.#below : this.#above;
    set(into, (down ? page.next : page.previous) ? Math.max(0, into.offsetHeight - height) : 0);
    if (this.#built.length > MOST) this.#drop(down ? this.#built.shift()! : this.#built.pop()!, down ? this.#above : this.#below);
    this.frame.scrollTop += end.body.isConnected ? end.body.getBoundingClientRect().top - anchor : 0;
    this.list.changed();
    return true;
  }

  // The focus is never lost: it goes to the row that is seen first.
  #drop({ body }: Page, to: HTMLTableSectionElement): void {
    const focused = body.contains(document.activeElement);
    set(to, to.offsetHeight + body.offsetHeight);
    body.remove();
    if (focused) this.seen[0]?.body.querySelector<HTMLElement>("a")?.focus({ preventScroll: true });
  }

  async #ask(token: string): Promise<Page | null> {
    const news = await ask("/rows", { ...this.list.named(), page: token, held: "" }).catch(() => null);
    return news ? pageOf(news, token) : null;
  }
}

function pageOf(news: News, token: string): Page {
  const body = document.createElement("tbody");
  body.append(...(news.order ?? []).flatMap(caseId => news.parts?.[caseId] ? [grow(news.parts[caseId])] : []));
  return { body, token, previous: news.previous ?? "", next: news.next ?? "" };
}

function gap(): HTMLTableSectionElement {
  const body = document.createElement("tbody");
  body.className = "gap";
  body.ariaHidden = "true";
  body.insertRow().insertCell().colSpan = 100;
  set(body, 0);
  return body;
}

function set(gap: HTMLTableSectionElement, height: number): void {
  gap.hidden = height === 0;
  gap.rows[0]!.cells[0]!.style.height = `${height}px`;
}
