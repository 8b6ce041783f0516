let current = 0;

const layer = () => document.querySelector("input[name=layer]:checked").value;

function drawBars(place, groups) {
  const box = byId(place);
  box.replaceChildren();
  for (const group of groups) {
    const share = group[layer()][current];
    const line = element("div", undefined, { class: "bar" });
    const meter = element("meter", undefined, { min: 0, max: 1, value: share, "aria-label": `${group.name} kept` });
    line.append(element("span", group.name), meter, element("span", `${percent(share)} of ${number(group.objects)}`));
    box.append(line);
  }
}

function drawLost() {
  const list = byId("lost");
  list.replaceChildren();
  const here = data.lost.filter((each) => !each.kept[current]);
  const all = data.views[current].lost;
  byId("lost-said").textContent = !all ? "Every object that a token can lie in has one in the first layer."
    : `${number(all)} of ${number(data.reachable)} objects have no token in the first layer` +
      (here.length < all ? `; here are the ${here.length} of them that are lost first.` : ".");
  for (const each of here) {
    const item = element("li");
    const text = `${each.name}, ${each.width} × ${each.height} pixels; lost up to budget ${data.views[each.lost_at].budget.toFixed(2)}`;
    item.append(element("img", undefined, { src: each.image, alt: `${text}; in ${each.path}`, loading: "lazy" }));
    item.append(element("div", text, { class: "muted" }));
    list.append(item);
  }
}

function drawNumbers() {
  const table = byId("numbers");
  table.replaceChildren();
  const header = row(["objects", "number", "no token at all", ...data.views.map((view) => view.budget.toFixed(2))], "th");
  table.append(header);
  for (const group of [...data.size, ...data.class]) {
    table.append(row([group.name, number(group.objects), number(group.unreachable), ...group[layer()].map(percent)]));
  }
  table.querySelectorAll("tr").forEach((each) => each.children[3 + current].classList.add("current"));
}

function show(position) {
  current = position;
  const every = data.size[0][layer()][current];
  byId("said").textContent = `${percent(every)} of all objects have a token in the ${layer()} layer`;
  drawBars("size", data.size);
  drawBars("class", data.class);
  drawLost();
  drawNumbers();
}

const move = startDial(data.views, show);
document.querySelectorAll("input[name=layer]").forEach((each) => each.addEventListener("change", move));
move();
