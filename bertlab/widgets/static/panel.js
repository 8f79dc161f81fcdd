// Keys pressed in a panel belong to the panel: JupyterLab would leave a list at an arrow key, and insert a cell at "b".
function render({ el }) {
  const keep = (event) => event.ctrlKey || event.metaKey || event.altKey || event.stopPropagation();
  let tries = 0;
  (function look() {
    const box = el.closest(".widget-vbox"); // there once the panel is on the page
    if (box) box.addEventListener("keydown", keep);
    else if (++tries < 600) requestAnimationFrame(look);
  })();
}

export default { render };
