"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  if (!data.frames) return;

  const last = data.frames - 1;
  const element = (tag, name = "") => Object.assign(document.createElement(tag), { className: name });
  const svg = (tag, attributes) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  };
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  // Four digits, as the tables have.
  const number = (value) => {
    const size = Math.abs(value);
    if (size >= 1e4) return value.toFixed(0);
    return size > 0 && size < 1e-4 ? value.toExponential(3) : String(Number(value.toPrecision(4)));
  };
  const measured = (value, unit) => value === null ? "not measured" : unit ? `${number(value)} ${unit}` : number(value);
  const moment = (frame) => `frame ${frame}, ${data.seconds[frame].toFixed(2)} s`;

  // ---- The moment all parts of the page agree on

  let current = null;
  const listeners = [];
  function show(frame) {
    if (frame === current) return;
    current = frame;
    document.body.classList.add("has-moment");
    for (const listen of listeners) listen(frame);
  }

  // ---- Clips that play in step

  const videos = [...document.querySelectorAll(".clips video")];
  const controls = document.querySelector(".controls");

  function frameAt(time) {
    let low = 0, high = last;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (data.seconds[middle] <= time + 0.001) low = middle; else high = middle - 1;
    }
    return low;
  }

  // The middle of a frame's time: stamps are rounded to milliseconds.
  function middleOf(frame) {
    const next = frame < last ? data.seconds[frame + 1] : data.seconds[frame] + 0.04;
    return (data.seconds[frame] + next) / 2;
  }

  function seek(frame) {
    for (const video of videos) video.currentTime = middleOf(frame);
    show(frame);
  }

  function setUpPlayer() {
    const [leader, ...others] = videos;
    const button = controls.querySelector("button"), slider = controls.querySelector("input");
    const readout = controls.querySelector("output"), speed = controls.querySelector("select");
    let playing = false;

    function setPlaying(on) {
      playing = on;
      button.textContent = on ? "Pause" : "Play";
      if (!on) return stop();
      Promise.all(videos.map((video) => video.play())).then(follow, () => setPlaying(false));
    }

    function stop() {
      for (const video of videos) video.pause();
      seek(frameAt(leader.currentTime));
    }

    // Small differences are caught up with, large ones jumped over.
    function follow() {
      if (!playing) return;
      for (const other of others) {
        const behind = leader.currentTime - other.currentTime;
        if (Math.abs(behind) > 0.15 && !other.seeking) other.currentTime = leader.currentTime;
        const change = Math.abs(behind) > 0.008 ? clamp(behind * 3, -0.4, 0.4) : 0;
        other.playbackRate = Number(speed.value) * (1 + change);
      }
      show(frameAt(leader.currentTime));
      requestAnimationFrame(follow);
    }

    leader.addEventListener("ended", () => {
      for (const video of videos) video.currentTime = 0;
      if (playing) setPlaying(true);
    });
    button.addEventListener("click", () => setPlaying(!playing));
    speed.addEventListener("change", () => { for (const video of videos) video.playbackRate = Number(speed.value); });
    slider.addEventListener("input", () => { if (playing) setPlaying(false); seek(Number(slider.value)); });
    for (const video of videos) video.addEventListener("click", () => setPlaying(!playing));
    listeners.push((frame) => {
      slider.value = frame;
      slider.setAttribute("aria-valuetext", moment(frame));
      readout.textContent = `${moment(frame)} of ${data.seconds[last].toFixed(2)}`;
    });
    controls.hidden = false;
  }
  if (videos.length) setUpPlayer();

  // ---- The frames under the pointer

  const peek = element("aside", "peek");
  peek.hidden = true;
  peek.setAttribute("aria-hidden", "true"); // what it says of numbers, the slider says too
  const row = element("div", "thumbs"), text = element("p");
  const thumbs = data.clips.map((clip) => {
    const cell = element("div"), thumb = element("div", "thumb"), label = element("span");
    cell.style.flex = String(clip.width / clip.height);
    thumb.style.aspectRatio = `${clip.width} / ${clip.height}`;
    thumb.style.backgroundImage = `url(${clip.uri})`;
    thumb.style.backgroundSize = `${clip.columns * 100}% ${clip.rows * 100}%`;
    label.textContent = clip.label;
    cell.append(thumb, label);
    row.append(cell);
    return thumb;
  });
  peek.append(row, text);
  document.body.append(peek);

  const share = (index, count) => count > 1 ? `${100 * index / (count - 1)}%` : "0%";

  function peekAt(frame, curve, box) {
    data.clips.forEach((clip, index) => {
      const tile = clip.still ? 0 : Math.floor(frame / data.every);
      const position = [share(tile % clip.columns, clip.columns), share(Math.floor(tile / clip.columns), clip.rows)];
      thumbs[index].style.backgroundPosition = position.join(" ");
      thumbs[index].dataset.tile = tile;
    });
    const where = element("span"), value = element("strong");
    where.textContent = moment(frame);
    value.textContent = curve ? `${curve.name} ${measured(curve.values[frame], curve.unit)}` : "";
    text.replaceChildren(where, value);
    peek.hidden = false;
    place(frame, curve, box);
  }

  function place(frame, curve, box) {
    const across = curve ? box.left + box.width * (last ? frame / last : 0) : box.left + box.width / 2;
    const { width, height } = peek.getBoundingClientRect();
    const below = box.bottom + 28, above = box.top - height - 12;
    peek.style.left = `${clamp(across - width / 2, 8, innerWidth - width - 8)}px`;
    peek.classList.toggle("high", box.bottom + height + 16 > innerHeight); // where it is at the screen's edge
    peek.style.top = `${below + height < innerHeight || above < 0 ? below : above}px`;
  }

  const hidePeek = () => { peek.hidden = true; };
  addEventListener("scroll", hidePeek, { passive: true });
  addEventListener("keydown", (event) => { if (event.key === "Escape") hidePeek(); });

  for (const button of document.querySelectorAll("button.frame")) {
    const frame = Number(button.dataset.frame), curve = data.curves[button.dataset.curve];
    const look = () => peekAt(frame, null, button.getBoundingClientRect());
    button.addEventListener("click", () => { seek(frame); look(); });
    for (const event of ["pointerenter", "focus"]) button.addEventListener(event, look);
    for (const event of ["pointerleave", "blur"]) button.addEventListener(event, hidePeek);
  }

  // ---- Curves

  function range(values) {
    const known = values.filter((value) => value !== null);
    const low = known.reduce((a, b) => Math.min(a, b)), high = known.reduce((a, b) => Math.max(a, b));
    const room = high > low ? (high - low) * 0.06 : Math.abs(high) * 0.1 || 1;
    return { low: low - room, high: high + room, least: low, most: high };
  }

  const upward = (value, { low, high }) => 100 * (high - value) / (high - low);

  // One point a frame that was measured; a frame alone between two that were not is a dot.
  function line(values, limits) {
    const known = (index) => index >= 0 && index <= last && values[index] !== null;
    return values.map((value, index) => {
      if (value === null) return "";
      const point = `${index},${upward(value, limits).toFixed(2)}`;
      return known(index - 1) ? `L${point}` : known(index + 1) ? `M${point}` : `M${point}h0`;
    }).join("");
  }

  function gaps(values) {
    const rects = [];
    for (let start = 0; start <= last; start++) {
      if (values[start] !== null) continue;
      let end = start;
      while (end < last && values[end + 1] === null) end++;
      const left = Math.max(start - 0.5, 0), right = Math.min(end + 0.5, last);
      rects.push(svg("rect", { class: "gap", x: left, y: 0, width: right - left, height: 100 }));
      start = end;
    }
    return rects;
  }

  const picture = (values, limits, shading) => {
    const drawing = svg("svg", { viewBox: `0 0 ${last || 1} 100`, preserveAspectRatio: "none", "aria-hidden": "true" });
    if (shading) drawing.append(...gaps(values));
    drawing.append(svg("path", { class: "line", d: line(values, limits) }));
    return drawing;
  };

  const put = (node, frame, height) => {
    node.style.left = `${last ? 100 * frame / last : 0}%`;
    if (height !== undefined) node.style.top = `${height}%`;
  };

  function drawCurve(curve, card) {
    const plot = card.querySelector(".plot"), now = card.querySelector(".now"), limits = range(curve.values);
    const [high, low, cursor, dot, mark] = ["high", "low", "cursor", "dot", "mark"].map((name) => element("div", name));
    high.textContent = number(limits.most);
    low.textContent = limits.most > limits.least ? number(limits.least) : "";
    put(mark, curve.worst, upward(curve.values[curve.worst], limits));
    plot.append(picture(curve.values, limits, true), high, low, cursor, dot);
    if (limits.most > limits.least) plot.append(mark);

    listeners.push((frame) => {
      const value = curve.values[frame];
      put(cursor, frame);
      dot.classList.toggle("on", value !== null);
      if (value !== null) put(dot, frame, upward(value, limits));
      now.textContent = measured(value, curve.unit);
      plot.setAttribute("aria-valuenow", frame);
      plot.setAttribute("aria-valuetext", `${moment(frame)}: ${measured(value, curve.unit)}`);
    });

    const look = (frame) => { show(frame); peekAt(frame, curve, plot.getBoundingClientRect()); };
    const under = (event) => {
      const box = plot.getBoundingClientRect();
      return clamp(Math.round(last * (event.clientX - box.left) / box.width), 0, last);
    };
    plot.addEventListener("pointermove", (event) => look(under(event)));
    plot.addEventListener("pointerdown", (event) => look(under(event)));
    plot.addEventListener("click", (event) => seek(under(event)));
    plot.addEventListener("pointerleave", hidePeek);
    plot.addEventListener("blur", hidePeek);
    plot.addEventListener("keydown", (event) => {
      const from = current ?? 0, far = Math.max(1, Math.round(last / 10));
      const to = { ArrowLeft: from - 1, ArrowDown: from - 1, ArrowRight: from + 1, ArrowUp: from + 1,
        PageDown: from - far, PageUp: from + far, Home: 0, End: last }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      seek(clamp(to, 0, last));
      peekAt(current, curve, plot.getBoundingClientRect());
    });
  }

  for (const card of document.querySelectorAll(".curve")) drawCurve(data.curves[card.dataset.curve], card);
  for (const cell of document.querySelectorAll("td[data-curve]")) {
    const { values } = data.curves[cell.dataset.curve];
    const drawing = picture(values, range(values), false);
    drawing.classList.add("spark");
    cell.append(drawing);
  }
})();
