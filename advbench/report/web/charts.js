// Charts: one Vega-Lite specification each, drawn as SVG and coloured by the style sheet; the legend is made of buttons.
(() => {
  const GLYPHS = {
    circle: "\u25cf", square: "\u25a0", cross: "\u271a", diamond: "\u25c6",
    "triangle-up": "\u25b2", "triangle-down": "\u25bc", "triangle-right": "\u25b6", "triangle-left": "\u25c0",
  };
  const scaleOf = (view, name) => { try { return view.scale(name); } catch { return null; } };

  function legend(box, view) {
    const colour = view.scale("color"), shape = scaleOf(view, "shape"), hidden = new Set();
    for (const group of colour.domain()) {
      const button = document.createElement("button"), mark = document.createElement("span");
      button.type = "button";
      mark.textContent = GLYPHS[shape ? shape(group) : "circle"];
      mark.style.color = colour(group);
      mark.setAttribute("aria-hidden", "true");
      button.append(mark, String(group));
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        const shown = hidden.has(group);
        if (shown) hidden.delete(group); else hidden.add(group);
        button.setAttribute("aria-pressed", String(shown));
        view.signal("hidden", [...hidden]).runAsync();
      });
      box.append(button);
    }
  }

  const { specs } = JSON.parse(document.getElementById("data").textContent);
  for (const figure of document.querySelectorAll("[data-chart]")) {
    const spec = specs[figure.dataset.chart];
    const filters = (spec.params ?? []).some((param) => param.name === "hidden");
    const fluid = !("facet" in spec) && typeof spec.width === "number"; // a row of panels has the width of its panels
    const own = { ...spec, background: "transparent", ...(fluid && { width: "container", autosize: { type: "fit-x", contains: "padding" } }) };
    const config = { legend: filters ? { disable: true } : { orient: "bottom", columns: figure.clientWidth < 600 ? 1 : 2, labelLimit: 300 } };
    const plot = figure.querySelector(".plot");
    vegaEmbed(plot, own, { actions: false, renderer: "svg", config }).then(({ view }) => {
      plot.querySelector("svg").setAttribute("aria-hidden", "true"); // what is read out is the label of the plot
      if (filters) legend(figure.querySelector(".legend"), view);
    });
    if (!filters) figure.querySelector(".legend").remove();
  }
})();
