// The menu of a row: by right click, by the menu key, by its button. What its person may not do is not in it.
import { rowOf } from "./focus";

const GAP = 4;

export class RowMenu {
  #row: HTMLTableRowElement | null = null;

  constructor(private readonly menu: HTMLElement, body: HTMLElement, private readonly leave: (row: HTMLTableRowElement) => void) {
    body.addEventListener("contextmenu", event => {
      const row = rowOf(event.target);
      if (!row || event.shiftKey && event.button === 2) return; // the browser's own, with Shift
      event.preventDefault();
      if (event.button === 2) this.open(row, event.clientX, event.clientY);
      else this.open(row);
    });
    body.addEventListener("click", event => {
      const button = event.target instanceof Element && event.target.closest(".more");
      if (!button) return;
      const { left, bottom } = button.getBoundingClientRect();
      this.open(rowOf(button), left, bottom + GAP);
    });
    menu.addEventListener("keydown", event => this.#key(event));
    menu.addEventListener("click", event => {
      if (!this.#row) return;
      this.leave(this.#row);
      this.#post(event, this.#row);
    });
    menu.addEventListener("toggle", event => { if (event.newState === "closed") this.#closed(); });
  }

  open(row: HTMLTableRowElement | null, x?: number, y?: number): void {
    if (!row?.dataset.case) return;
    this.#row = row;
    row.dataset.acting = "";
    const may = new Set(row.dataset.may?.split(" "));
    for (const item of this.menu.querySelectorAll<HTMLAnchorElement>("a")) {
      const needs = item.dataset.needs?.split(" ") ?? [];
      item.hidden = needs.length > 0 && !needs.some(act => may.has(act));
      item.setAttribute("href", `/cases/${row.dataset.case}${item.dataset.path ?? ""}`);
    }
    this.menu.showPopover();
    const box = row.querySelector("a")!.getBoundingClientRect();
    const { width, height } = this.menu.getBoundingClientRect();
    const left = Math.min(x ?? box.left, innerWidth - width - GAP);
    const below = y ?? box.bottom + GAP;
    const top = below + height > innerHeight ? Math.max(GAP, (y ?? box.top) - height - GAP) : below;
    this.menu.style.left = `${left}px`;
    this.menu.style.top = `${top}px`;
    this.#items[0]?.focus();
  }

  // An act that a free case allows at once, such as to lock it and write; else its item leads to the page.
  #post(event: MouseEvent, row: HTMLTableRowElement): void {
    const item = event.target instanceof Element && event.target.closest<HTMLAnchorElement>("a[data-posts]");
    if (!item || row.dataset.free === undefined || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const form = this.menu.querySelector("form")!;
    form.action = `/cases/${row.dataset.case}${item.dataset.posts}`;
    form.submit();
  }

  get #items(): HTMLAnchorElement[] {
    return [...this.menu.querySelectorAll<HTMLAnchorElement>("a:not([hidden])")];
  }

  #key(event: KeyboardEvent): void {
    const items = this.#items;
    const at = items.indexOf(document.activeElement as HTMLAnchorElement);
    const first = (item: HTMLElement) => item.textContent?.trim()[0]?.toLowerCase() === event.key.toLowerCase();
    const to = event.key === "ArrowDown" ? items[(at + 1) % items.length]
      : event.key === "ArrowUp" ? items[(at - 1 + items.length) % items.length]
      : event.key === "Home" ? items[0]
      : event.key === "End" ? items.at(-1)
      : event.key.length === 1 ? [...items.slice(at + 1), ...items].find(first) : undefined;
    if (event.key === "Tab") this.menu.hidePopover();
    else if (!to) return;
    to?.focus();
    event.preventDefault();
  }

  // The focus goes back to the row, unless it has gone elsewhere by itself.
  #closed(): void {
    delete this.#row?.dataset.acting;
    const at = document.activeElement;
    if (at === document.body || this.menu.contains(at) || this.#row?.contains(at)) this.#row?.querySelector("a")?.focus({ preventScroll: true });
  }
}
