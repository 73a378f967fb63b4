// Where somebody stands in a list: on the link of one row, which alone is reached by Tab.
import type { Rows } from "./rows";

const BACK = "readroom.back"; // ids of a view and of the case that was opened from it, and a token, which is encrypted

export class Standing {
  constructor(
    private readonly rows: Rows,
    private readonly view: string,
    private readonly tokenOf: (row: HTMLTableRowElement) => string,
  ) {
    this.settle();
    rows.table.addEventListener("focusin", event => this.#take(rowOf(event.target)));
    rows.table.addEventListener("click", event => {
      const opened = event.target instanceof Element && event.target.closest("a");
      if (opened) this.leave(rowOf(opened));
    });
  }

  get row(): HTMLTableRowElement | null {
    return rowOf(document.activeElement) ?? rowOf(this.rows.table.querySelector("a[tabindex='0']"));
  }

  get isOnRow(): boolean { return this.rows.table.contains(document.activeElement); }

  go(row: HTMLTableRowElement | null | undefined): void {
    row?.querySelector("a")?.focus();
  }

  // From where somebody stands so many rows down; who stands nowhere begins at the first. Whether there was a row.
  move(by: number): boolean {
    const all = this.rows.all;
    const at = this.row ? all.indexOf(this.row) : -1;
    if (!this.isOnRow) this.go(this.row ?? all[0]);
    else this.go(all[Math.min(Math.max(at + by, 0), all.length - 1)]);
    return at + by >= 0 && at + by < all.length;
  }

  // Exactly one link is reached by Tab, whatever became of the rows.
  settle(): void {
    const links = this.rows.all.map(row => row.querySelector("a")!);
    const stood = links.find(link => link.tabIndex === 0 && link.hasAttribute("tabindex"));
    for (const link of links) link.tabIndex = -1;
    const first = stood ?? links[0];
    if (first) first.tabIndex = 0;
  }

  leave(row: HTMLTableRowElement | null): void {
    if (row) sessionStorage.setItem(BACK, [this.view, row.dataset.case, this.tokenOf(row)].join(" "));
  }

  // The case that somebody opened from this list and comes back from, and the token of its page; once.
  static cameFrom(view: string): [string, string] {
    const [kept, caseId, token] = (sessionStorage.getItem(BACK) ?? "").split(" ");
    sessionStorage.removeItem(BACK);
    return kept === view && caseId ? [caseId, token ?? ""] : ["", ""];
  }

  #take(row: HTMLTableRowElement | null): void {
    const link = row?.querySelector("a");
    if (!link || link.tabIndex === 0) return;
    for (const other of this.rows.table.querySelectorAll("a[tabindex='0']")) other.setAttribute("tabindex", "-1");
    link.tabIndex = 0;
  }
}

export function rowOf(at: EventTarget | null): HTMLTableRowElement | null {
  return at instanceof Element ? at.closest<HTMLTableRowElement>("tr[data-case]") : null;
}
