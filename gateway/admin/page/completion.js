// The list of completions below the site file. Ctrl+Space goes into it, arrows choose, Enter takes one, Escape leaves it.

import { $, call, element, setText } from "/gateway.js";
import { suggestions } from "/complete.js";

const SHOWN = 12;

const list = { schema: null, offered: [], active: -1 };
const area = $("site-text");
const box = $("site-completions");

async function load() {
  if (list.schema) return;
  const answer = await call("GET", "/schema");
  if (answer.ok) list.schema = await answer.json();
}

function close() {
  Object.assign(list, { offered: [], active: -1 });
  box.replaceChildren();
  box.hidden = true;
  area.removeAttribute("aria-activedescendant");
  setText($("site-hint"), "");
}

/** Offer what may stand at the cursor; `active`: the option that the keys are at, -1 for none. */
function offer(active) {
  if (!list.schema || area.selectionStart !== area.selectionEnd) {
    close();
    return;
  }
  const all = suggestions(list.schema, area.value.slice(0, area.selectionStart), area.value);
  if (!all.length) {
    close();
    if (active >= 0) setText($("site-hint"), "Nothing is known for this place.");
    return;
  }
  list.offered = all.slice(0, SHOWN);
  list.active = active;
  box.replaceChildren();
  list.offered.forEach((one, i) => {
    const option = element("li", box, { role: "option", id: `completion-${i}`, "aria-selected": "false" });
    setText(element("b", option), one.word);
    option.append(" ");
    setText(element("span", option), one.about);
    option.addEventListener("mousedown", event => {
      event.preventDefault(); // the focus stays
      take(i);
    });
  });
  box.hidden = false;
  const more = all.length > SHOWN ? `, ${all.length - SHOWN} more` : "";
  setText($("site-hint"), active >= 0 ? "" : `${list.offered.length} completions${more}: Ctrl+Space to choose`);
  mark();
}

function mark() {
  [...box.children].forEach((option, i) => option.setAttribute("aria-selected", String(i === list.active)));
  if (list.active < 0) area.removeAttribute("aria-activedescendant");
  else area.setAttribute("aria-activedescendant", `completion-${list.active}`);
}

function take(i) {
  const { insert, prefix } = list.offered[i];
  area.setSelectionRange(area.selectionStart - prefix, area.selectionStart);
  close();
  // It is the one way to write that the browser can undo.
  if (!document.execCommand("insertText", false, insert)) {
    area.setRangeText(insert, area.selectionStart, area.selectionEnd, "end");
    area.dispatchEvent(new Event("input"));
  }
}

area.addEventListener("focus", load);
area.addEventListener("input", () => offer(-1));
area.addEventListener("blur", close);
area.addEventListener("keydown", async event => {
  if (event.ctrlKey && event.key === " ") {
    event.preventDefault();
    await load();
    offer(0);
    return;
  }
  if (list.active < 0) {
    if (event.key === "Escape") close();
    return;
  }
  const count = list.offered.length;
  if (event.key === "ArrowDown") list.active = (list.active + 1) % count;
  else if (event.key === "ArrowUp") list.active = (list.active + count - 1) % count;
  else if (event.key === "Enter") take(list.active);
  else if (event.key === "Escape") close();
  else {
    if (["ArrowLeft", "ArrowRight", "Tab", "Home", "End"].includes(event.key)) close();
    return;
  }
  event.preventDefault();
  mark();
});
