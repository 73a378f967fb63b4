// Keys of a page. A single letter does something only where nobody types, and unless its person has switched that off.
export type Act = () => unknown;

export interface Keys {
  letters: Record<string, Act>; // by the character that is typed
  others: Record<string, Act>; // by the name of the key, while the list has the focus
}

export function listen(keys: Keys, hasFocus: () => boolean): void {
  document.addEventListener("keydown", event => {
    const isElsewhere = document.querySelector("dialog[open], [popover]:popover-open") !== null;
    if (event.defaultPrevented || isElsewhere || event.ctrlKey || event.altKey || event.metaKey) return;
    const act = event.key.length === 1 ? lettersCount(event) && keys.letters[event.key]
      : hasFocus() && keys.others[event.shiftKey ? `Shift+${event.key}` : event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
}

export function lettersCount(event: KeyboardEvent): boolean {
  const types = event.target instanceof Element && event.target.closest("textarea, select, input:not([type=radio])");
  const isButton = event.key === " " && event.target instanceof Element && event.target.closest("button, summary");
  return !types && !isButton && document.documentElement.dataset.keys !== "off";
}
