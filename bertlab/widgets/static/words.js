// A row of words to press: buttons with aria-pressed; one Tab stop, the keys move inside it.
function render({ model, el }) {
  const label = document.createElement("span");
  label.className = "bertlab-words-label";
  label.setAttribute("aria-hidden", "true"); // the group has it as its name
  const group = document.createElement("div");
  group.className = "bertlab-words";
  group.setAttribute("role", "group");
  group.dir = "auto"; // a right-to-left sentence runs from right to left
  el.classList.add("bertlab-words-row");
  el.replaceChildren(label, group);
  let at = 0; // the button that Tab reaches

  const buttons = () => [...group.children];

  function reach(number) {
    const all = buttons();
    at = Math.max(0, Math.min(all.length - 1, number));
    all.forEach((button, i) => (button.tabIndex = i === at ? 0 : -1));
    return all[at];
  }

  function press(number) {
    const pressed = model.get("value").filter((i) => i < buttons().length); // the words may have become fewer
    const on = pressed.includes(number);
    const others = model.get("many") ? pressed.filter((i) => i !== number) : [];
    model.set("value", on ? others : [...others, number].sort((a, b) => a - b));
    model.save_changes();
  }

  function mark() {
    const pressed = new Set(model.get("value"));
    buttons().forEach((button, i) => button.setAttribute("aria-pressed", String(pressed.has(i))));
  }

  function name() {
    label.textContent = model.get("description");
    group.setAttribute("aria-label", model.get("description"));
  }

  function draw() {
    const inside = group.contains(document.activeElement);
    group.replaceChildren(
      ...model.get("words").map((word) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = word; // never innerHTML: the words are somebody's text
        return button;
      }),
    );
    mark();
    const now = reach(at);
    if (inside && now) now.focus();
  }

  // The nearest button of the line below (way 1) or above (way -1).
  function line(way) {
    const all = buttons();
    const here = all[at].getBoundingClientRect();
    const middle = (box) => (box.left + box.right) / 2;
    let best = at;
    let top = null;
    for (let i = at + way; i >= 0 && i < all.length; i += way) {
      const box = all[i].getBoundingClientRect();
      if (Math.abs(box.top - here.top) < here.height / 2) continue;
      if (top === null) [top, best] = [box.top, i];
      if (Math.abs(box.top - top) >= here.height / 2) break;
      if (Math.abs(middle(box) - middle(here)) < Math.abs(middle(all[best].getBoundingClientRect()) - middle(here))) best = i;
    }
    return best;
  }

  group.addEventListener("click", (event) => {
    const number = buttons().indexOf(event.target.closest("button"));
    if (number < 0) return;
    reach(number);
    press(number);
  });
  group.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    const next = getComputedStyle(group).direction === "rtl" ? -1 : 1;
    const go = {
      ArrowRight: () => at + next,
      ArrowLeft: () => at - next,
      ArrowDown: () => line(1),
      ArrowUp: () => line(-1),
      Home: () => 0,
      End: () => buttons().length - 1,
    };
    if (event.key === "Enter" || event.key === " ") event.stopPropagation(); // the browser presses the button; JupyterLab would edit the cell
    if (!(event.key in go)) return;
    event.preventDefault();
    event.stopPropagation(); // JupyterLab would move to another cell
    reach(go[event.key]())?.focus();
  });
  group.addEventListener("focusin", (event) => {
    const number = buttons().indexOf(event.target);
    if (number >= 0) reach(number);
  });

  model.on("change:words", draw);
  model.on("change:value", mark);
  model.on("change:description", name);
  name();
  draw();
  return () => {
    model.off("change:words", draw);
    model.off("change:value", mark);
    model.off("change:description", name);
  };
}

export default { render };
