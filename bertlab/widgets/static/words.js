// A row of words to press: buttons with aria-pressed; one Tab stop, arrow keys move inside it.
function render({ model, el }) {
  const group = document.createElement("div");
  group.className = "bertlab-words";
  group.setAttribute("role", "group");
  el.replaceChildren(group);
  let at = 0; // the button that Tab reaches

  const buttons = () => [...group.children];

  function focus(number) {
    const all = buttons();
    if (!all.length) return;
    at = Math.max(0, Math.min(all.length - 1, number));
    all.forEach((button, i) => (button.tabIndex = i === at ? 0 : -1));
    all[at].focus();
  }

  function press(number) {
    const pressed = model.get("value");
    const on = pressed.includes(number);
    const others = model.get("many") ? pressed.filter((i) => i !== number) : [];
    model.set("value", on ? others : [...others, number].sort((a, b) => a - b));
    model.save_changes();
  }

  function mark() {
    const pressed = model.get("value");
    buttons().forEach((button, i) => button.setAttribute("aria-pressed", String(pressed.includes(i))));
  }

  function name() {
    group.setAttribute("aria-label", model.get("description"));
  }

  function draw() {
    const inside = group.contains(document.activeElement);
    group.replaceChildren(
      ...model.get("words").map((word, i) => {
        const button = document.createElement("button");
        button.type = "button";
        button.textContent = word; // never innerHTML: the words are somebody's text
        button.dir = "auto";
        button.addEventListener("click", () => {
          at = i;
          press(i);
        });
        return button;
      }),
    );
    at = Math.min(at, Math.max(0, buttons().length - 1));
    buttons().forEach((button, i) => (button.tabIndex = i === at ? 0 : -1));
    mark();
    if (inside) focus(at);
  }

  group.addEventListener("keydown", (event) => {
    const go = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons().length - 1 };
    if (!(event.key in go)) return;
    event.preventDefault();
    event.stopPropagation(); // JupyterLab would move to another cell
    focus(go[event.key]);
  });
  group.addEventListener("focusin", (event) => {
    const number = buttons().indexOf(event.target);
    if (number >= 0) at = number;
  });

  model.on("change:words", draw);
  model.on("change:value", mark);
  model.on("change:description", name);
  name();
  draw();
}

export default { render };
