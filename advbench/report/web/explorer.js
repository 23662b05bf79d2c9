// The explorer: pictures are sprites of all images, a perturbation is stored in steps of its image's largest value.
(() => {
  const section = document.getElementById("explore");
  if (!section) return;
  const { explorer } = JSON.parse(document.getElementById("data").textContent);
  const [, height, width] = explorer.shape;
  const find = (selector) => section.querySelector(selector);
  const controls = find(".controls").elements, gain = find("[name=gain]"), thumbnails = find(".thumbnails");
  const sprites = new Map();
  let current = 0, gainChosen = false, drawing = 0;

  const percent = (p) => `${(100 * p).toFixed(1)} %`;
  const short = (value) => (value !== 0 && Math.abs(value) < 0.001 ? value.toExponential(1) : value.toFixed(3));
  const unique = (values) => [...new Set(values)];
  function epsName({ eps, norm }) {
    if (eps === null) return "none";
    return norm === "l2" ? `${+eps.toFixed(4)} in l2` : `${+(eps * 255).toFixed(2)}/255 (${+eps.toFixed(4)})`;
  }

  function element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  function options(select, values, names = values) {
    const before = select.value;
    select.replaceChildren(...values.map((value, i) => element("option", { value: String(value), textContent: names[i] })));
    if (values.some((value) => String(value) === before)) select.value = before;
  }

  function version() {
    const { model, attack, eps } = controls;
    return explorer.versions.findIndex((v) => v.model === model.value && v.attack === attack.value && String(v.eps) === eps.value);
  }

  // One image: what the classifier and the detector said of it.
  function facts(index, i) {
    const v = explorer.versions[index], clean = explorer.models[v.model], label = explorer.labels[i];
    return {
      label, before: clean.probabilities[i], after: v.probabilities[i], predictedClean: clean.predicted[i],
      predicted: v.predicted[i], fooled: v.predicted[i] !== label, threshold: v.threshold,
      scores: v.scores && [v.scores.clean[i], v.scores.adversarial[i]],
      flags: v.flagged && [v.flagged.clean[i], v.flagged.adversarial[i]], flagged: v.flagged ? v.flagged.adversarial[i] : null,
    };
  }

  async function pixels(number) {
    if (!sprites.has(number)) {
      sprites.set(number, (async () => {
        const image = new Image();
        image.src = explorer.images[number];
        await image.decode();
        const canvas = element("canvas", { width: image.width, height: image.height });
        const context = canvas.getContext("2d", { willReadFrequently: true });
        context.drawImage(image, 0, 0);
        return context;
      })());
    }
    const context = await sprites.get(number);
    return (i) => context.getImageData((i % explorer.columns) * width, Math.floor(i / explorer.columns) * height, width, height).data;
  }

  function paint(name, colours, alt) {
    const canvas = find(`[data-panel=${name}]`);
    canvas.width = width;
    canvas.height = height;
    canvas.getContext("2d").putImageData(new ImageData(colours, width, height), 0, 0);
    canvas.setAttribute("aria-label", alt);
  }

  async function pictures(index, fact) {
    const turn = ++drawing;
    const [cleanOf, deltaOf] = await Promise.all([pixels(0), pixels(index + 1)]);
    if (turn !== drawing) return; // a later choice is already being drawn
    const clean = cleanOf(current), stored = deltaOf(current);
    const step = (255 * explorer.versions[index].largest[current]) / explorer.levels, times = 2 ** gain.value;
    const shown = new Uint8ClampedArray(clean), adversarial = new Uint8ClampedArray(clean);
    for (let k = 0; k < clean.length; k++) {
      if (k % 4 === 3) continue;
      const delta = ((stored[k] - 128) / 4) * step;
      shown[k] = 128 + times * delta;
      adversarial[k] = clean[k] + delta;
    }
    paint("clean", clean, `clean image ${current}: ${explorer.classes[fact.label]}`);
    paint("perturbation", shown, `its perturbation, ${times} times; the largest change is ${(step * explorer.levels).toFixed(2)}/255`);
    paint("adversarial", adversarial, `adversarial image ${current}, taken for ${explorer.classes[fact.predicted]}`);
  }

  const bar = (kind, share, mark = null) => {
    const filled = element("i", { className: kind });
    filled.style.width = `${100 * share}%`;
    const whole = element("span", { className: "bar" }, filled);
    if (mark !== null) {
      const line = element("i", { className: "threshold" });
      line.style.left = `${100 * mark}%`;
      whole.append(line);
    }
    whole.setAttribute("aria-hidden", "true");
    return whole;
  };

  const key = () => {
    const box = (name) => { const b = element("span"); b.style.background = `var(--${name})`; return b; };
    return element("p", { className: "key" }, box("clean"), "clean", box("adversarial"), "adversarial");
  };

  function probabilities(fact) {
    const order = fact.before.map((_, c) => c).sort((a, b) => Math.max(fact.before[b], fact.after[b]) - Math.max(fact.before[a], fact.after[a]));
    const body = element("tbody");
    for (const c of order.slice(0, 10)) {
      const name = element("th", { scope: "row", textContent: explorer.classes[c] + (c === fact.label ? " (true)" : "") });
      body.append(element("tr", {}, name, element("td", {}, bar("clean", fact.before[c]), bar("adversarial", fact.after[c])),
        element("td", { textContent: percent(fact.before[c]) }), element("td", { textContent: percent(fact.after[c]) })));
    }
    const head = element("thead", {}, element("tr", {}, ...["class", "", "clean", "adversarial"].map((text) =>
      text ? element("th", { scope: "col", textContent: text }) : element("td"))));
    find(".probabilities").replaceChildren(element("h3", { textContent: "Class probabilities" }), key(), element("table", { className: "bars" }, head, body));
  }

  function detector(fact) {
    if (!fact.scores) return find(".detector").replaceChildren();
    const body = element("tbody");
    ["clean", "adversarial"].forEach((kind, k) => {
      const score = fact.scores[k], said = fact.flags[k] ? "flagged" : "not flagged";
      body.append(element("tr", {}, element("th", { scope: "row", textContent: kind }), element("td", {}, bar(kind, score, fact.threshold)),
        element("td", { textContent: short(score) }), element("td", { textContent: said })));
    });
    find(".detector").replaceChildren(element("h3", { textContent: "Detector" }),
      element("p", { textContent: `score of each image; the line is the threshold, ${short(fact.threshold)}` }),
      element("table", { className: "bars" }, body));
  }

  function show() {
    const index = version(), fact = facts(index, current), name = (c) => explorer.classes[c];
    if (!gainChosen) {
      const sizes = explorer.versions[index].largest.toSorted((a, b) => a - b);
      gain.value = Math.round(Math.log2(0.5 / sizes[sizes.length >> 1]));
    }
    find("output").textContent = 2 ** gain.value;
    gain.setAttribute("aria-valuetext", `${2 ** gain.value} times`);
    for (const button of thumbnails.children) {
      const chosen = Number(button.value) === current;
      button.setAttribute("aria-pressed", String(chosen));
      button.tabIndex = chosen ? 0 : -1;
    }
    const flagged = fact.flagged === null ? "" : fact.flagged ? ", and the detector flags it" : ", and the detector does not flag it";
    find(".verdict").textContent = `Image ${current}: ${name(fact.label)}, taken for ${name(fact.predictedClean)} when clean and for ${name(fact.predicted)} under attack${flagged}.`;
    probabilities(fact);
    detector(fact);
    return pictures(index, fact);
  }

  function filter() {
    const index = version(), { fooled, flagged, class: kind } = controls;
    const wanted = (control, is) => control.value === "" || (control.value === "yes") === is;
    const kept = explorer.labels.map((_, i) => i).filter((i) => {
      const fact = facts(index, i);
      return wanted(fooled, fact.fooled) && (fact.flagged === null || wanted(flagged, fact.flagged)) && (kind.value === "" || Number(kind.value) === fact.label);
    });
    thumbnails.replaceChildren(...kept.map((i) => thumbnail(i)));
    find(".count").textContent = `${kept.length} of ${explorer.labels.length} images`;
    find(".panels").hidden = find(".before-after").hidden = kept.length === 0;
    if (kept.length === 0) return void (find(".verdict").textContent = "No image is so.");
    if (!kept.includes(current)) current = kept[0];
    show();
  }

  function thumbnail(i) {
    const button = element("button", { type: "button", value: i });
    const side = 32, x = i % explorer.columns, y = Math.floor(i / explorer.columns);
    button.style.backgroundImage = "var(--sprite)";
    button.style.backgroundSize = `${side * explorer.columns}px auto`;
    button.style.backgroundPosition = `${-side * x}px ${-side * (height / width) * y}px`;
    button.setAttribute("aria-label", `image ${i}: ${explorer.classes[explorer.labels[i]]}`);
    button.addEventListener("click", () => { current = i; show(); });
    return button;
  }

  function attacks() {
    const same = explorer.versions.filter((v) => v.model === controls.model.value);
    options(controls.attack, unique(same.map((v) => v.attack)));
    const bounds = same.filter((v) => v.attack === controls.attack.value);
    options(controls.eps, bounds.map((v) => v.eps), bounds.map(epsName));
    controls.eps.disabled = bounds.length === 1;
  }

  thumbnails.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!move) return;
    event.preventDefault();
    const buttons = [...thumbnails.children];
    const next = buttons[buttons.indexOf(document.activeElement) + move];
    if (next) { next.focus(); next.click(); }
  });
  gain.addEventListener("input", () => { gainChosen = true; show(); });
  find(".controls").addEventListener("change", () => { attacks(); filter(); });
  find(".controls").addEventListener("submit", (event) => event.preventDefault());

  thumbnails.style.setProperty("--sprite", `url(${explorer.images[0]})`);
  options(controls.model, Object.keys(explorer.models));
  find("[data-for=model]").hidden = Object.keys(explorer.models).length === 1;
  find("[data-for=flagged]").hidden = !explorer.versions.some((v) => v.scores);
  const present = unique(explorer.labels).sort((a, b) => a - b);
  options(controls.class, ["", ...present], ["all", ...present.map((c) => explorer.classes[c])]);
  attacks();
  filter();
})();
