// Plays scenes (see stemrl/drawing.py) side by side on canvases, in step with one another.
"use strict";
(() => {
  const scenes = JSON.parse(document.getElementById("scenes").textContent);
  const root = document.getElementById("show");
  if (!root || !scenes.length) return;
  const panels = [...root.querySelectorAll(".panel")].map((panel) => ({
    canvas: panel.querySelector("canvas"),
    note: panel.querySelector("h3 span"),
  }));
  const button = root.querySelector(".play");
  const scrub = root.querySelector("input[type=range]");
  const clock = root.querySelector(".time");
  const slow = root.querySelector(".slow");
  const choices = [...root.querySelectorAll(".choices button")];
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  let chosen = 0, time = 0, playing = false, last = null, rate = 1, colours = {};

  const words = (v) => v.toFixed(2).replace("-", "\u2212");
  const current = () => scenes[chosen].panels;
  const length = () => Math.max(...current().map((p) => p.scene.frames * p.scene.seconds));

  function readColours() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ["sky", "ground", "text", "soft", "outline", "panel", "edge", "body", "near",
      "far", "goal", "start", "wall", "cell"]) colours[name] = style.getPropertyValue("--" + name).trim();
  }

  // Coordinates at a (fractional) frame: linear between frames, so that slow motion is smooth.
  function at(values, width, frames, frame) {
    if (values.length === width) return values;
    const low = Math.min(Math.floor(frame), frames - 1), high = Math.min(low + 1, frames - 1);
    const part = frame - Math.floor(frame), out = new Array(width);
    for (let i = 0; i < width; i++)
      out[i] = values[low * width + i] * (1 - part) + values[high * width + i] * part;
    return out;
  }

  function draw(canvas, scene) {
    const ratio = scene.window[1] / scene.window[0];
    // A square scene on a wide page would fill the screen.
    canvas.style.maxWidth = 400 / ratio + "px";
    const wide = canvas.clientWidth, tall = Math.round(wide * ratio);
    const dense = window.devicePixelRatio || 1;
    if (canvas.width !== Math.round(wide * dense) || canvas.height !== Math.round(tall * dense)) {
      canvas.width = Math.round(wide * dense);
      canvas.height = Math.round(tall * dense);
      canvas.style.height = tall + "px";
    }
    const c = canvas.getContext("2d");
    c.setTransform(dense, 0, 0, dense, 0, 0);
    c.fillStyle = colours.sky;
    c.fillRect(0, 0, wide, tall);
    const frame = Math.min(time / scene.seconds, scene.frames - 1);
    const scale = wide / scene.window[0];
    const camera = at(scene.camera, 2, scene.frames, frame);
    const x = (v) => wide / 2 + (v - camera[0]) * scale;
    const y = (v) => tall / 2 - (v - camera[1]) * scale;
    if (scene.ground !== null) ground(c, scene, camera, x, y, wide, tall, scale);
    c.lineCap = c.lineJoin = "round";
    for (const shape of scene.shapes) {
      const n = shape.kind === "capsule" || shape.kind === "band" ? 4 : 2;
      const p = at(shape.points, n, scene.frames, frame);
      const size = shape.size * scale;
      c.globalAlpha = 1;
      if (shape.role === "goal" && shape.kind === "capsule") { flag(c, p, x, y, wide, size); continue; }
      if (shape.kind === "square") {
        c.fillStyle = colours[shape.role];
        c.fillRect(x(p[0]) - size, y(p[1]) - size, 2 * size, 2 * size);
      } else if (shape.kind === "trail") {
        c.strokeStyle = colours[shape.role];
        c.lineWidth = Math.max(2 * size, 1.5);
        c.globalAlpha = 0.6;
        c.beginPath();
        for (let f = 0; f <= Math.floor(frame); f++)
          c.lineTo(x(shape.points[2 * f]), y(shape.points[2 * f + 1]));
        c.lineTo(x(p[0]), y(p[1]));
        c.stroke();
      } else {
        const end = n === 4 ? [p[2], p[3]] : [p[0], p[1]];
        if (shape.role === "goal") c.globalAlpha = 0.6;
        for (const [colour, extra] of [[colours.outline, 2.4], [colours[shape.role], 0]]) {
          if (extra && (shape.role === "goal" || shape.kind === "band")) continue;
          c.strokeStyle = colour;
          c.lineWidth = Math.max(2 * size, 1) + extra;
          c.beginPath();
          c.moveTo(x(p[0]), y(p[1]));
          c.lineTo(x(end[0]) + 0.01, y(end[1]));
          c.stroke();
        }
      }
    }
    c.globalAlpha = 1;
    if (scene.gauge) gauge(c, scene, frame, wide);
  }

  function ground(c, scene, camera, x, y, wide, tall, scale) {
    const level = y(scene.ground);
    c.fillStyle = colours.ground;
    c.fillRect(0, level, wide, tall - level);
    c.strokeStyle = c.fillStyle = colours.soft;
    c.lineWidth = 1;
    c.font = "11px system-ui, sans-serif";
    c.textAlign = "center";
    const half = scene.window[0] / 2;
    for (let t = Math.ceil((camera[0] - half) * 2) / 2; t <= camera[0] + half; t += 0.5) {
      const whole = Math.abs(t - Math.round(t)) < 0.01;
      c.beginPath();
      c.moveTo(x(t), level);
      c.lineTo(x(t), level + (whole ? 9 : 5));
      c.stroke();
      if (whole && (scale > 45 || Math.round(t) % 2 === 0))
        c.fillText((Math.round(t) + " m").replace("-", "\u2212"), x(t), level + 21);
    }
  }

  // A pole that is out of sight is an arrow at the edge, with its distance.
  function flag(c, p, x, y, wide, size) {
    const foot = x(p[0]), edge = foot < 0 ? -1 : foot > wide ? 1 : 0;
    c.strokeStyle = c.fillStyle = colours.goal;
    c.lineWidth = Math.max(2 * size, 2);
    const top = y(p[3]);
    c.beginPath();
    if (!edge) {
      c.moveTo(foot, y(p[1]));
      c.lineTo(foot, top);
      c.stroke();
      c.beginPath();
      c.moveTo(foot, top);
      c.lineTo(foot + 17, top + 6);
      c.lineTo(foot, top + 12);
      c.fill();
      return;
    }
    const tip = edge > 0 ? wide - 8 : 8;
    c.moveTo(tip, top + 8);
    c.lineTo(tip - edge * 13, top);
    c.lineTo(tip - edge * 13, top + 16);
    c.fill();
    c.font = "12px system-ui, sans-serif";
    c.textAlign = edge > 0 ? "right" : "left";
    const away = Math.abs(edge > 0 ? (foot - wide) : foot) / (wide / current()[0].scene.window[0]);
    c.fillText(away.toFixed(1) + " m", tip - edge * 18, top + 12);
  }

  function gauge(c, scene, frame, wide) {
    const g = scene.gauge, value = at(g.values, 1, scene.frames, frame)[0];
    const all = current().flatMap((p) => p.scene.gauge ? p.scene.gauge.values.concat(
      p.scene.gauge.target === null ? [] : [p.scene.gauge.target]) : []);
    const low = Math.min(0, ...all), high = Math.max(0.1, ...all) * 1.05;
    const left = 12, width = Math.min(wide - 24, 240), top = 30;
    const px = (v) => left + (v - low) / (high - low) * width;
    c.font = "12.5px system-ui, sans-serif";
    c.textAlign = "left";
    c.fillStyle = colours.text;
    const text = `${g.label} ${words(value)}${g.unit}`;
    c.fillText(text, left, 21);
    c.fillStyle = colours.edge;
    c.fillRect(left, top, width, 7);
    c.fillStyle = colours.near;
    c.fillRect(Math.min(px(0), px(value)), top, Math.abs(px(value) - px(0)), 7);
    if (g.target !== null) {
      const drawn = c.measureText(text).width;
      c.fillStyle = colours.goal;
      c.fillText(`target ${words(g.target)}`, left + drawn + 14, 21);
      c.fillRect(px(g.target) - 1.5, top - 4, 3, 15);
    }
  }

  function paint() {
    current().forEach((panel, i) => draw(panels[i].canvas, panel.scene));
    scrub.value = Math.round(1000 * time / length());
    clock.textContent = `${time.toFixed(1)} of ${length().toFixed(1)} s`;
    scrub.setAttribute("aria-valuetext", clock.textContent);
  }

  function tick(now) {
    if (!playing) return;
    if (last !== null) time += rate * Math.min((now - last) / 1000, 0.1);
    last = now;
    if (time >= length()) time = 0;
    paint();
    requestAnimationFrame(tick);
  }

  function play(on) {
    playing = on;
    last = null;
    button.textContent = on ? "Pause" : "Play";
    if (on) requestAnimationFrame(tick);
  }

  function choose(index) {
    chosen = index;
    time = 0;
    choices.forEach((b, i) => b.setAttribute("aria-pressed", i === index));
    current().forEach((panel, i) => {
      panels[i].note.textContent = panel.note;
      panels[i].canvas.setAttribute("aria-label", panel.scene.caption || panel.note);
    });
    paint();
  }

  readColours();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); paint(); });
  choices.forEach((b, i) => b.addEventListener("click", () => choose(i)));
  button.addEventListener("click", () => play(!playing));
  slow.addEventListener("click", () => {
    rate = rate === 1 ? 0.25 : 1;
    slow.setAttribute("aria-pressed", rate !== 1);
  });
  scrub.addEventListener("input", () => { play(false); time = scrub.value / 1000 * length() * 0.9999; paint(); });
  new ResizeObserver(paint).observe(root);
  choose(0);
  if (!calm) {
    const watch = new IntersectionObserver((seen) => {
      if (seen.some((s) => s.isIntersecting)) { watch.disconnect(); play(true); }
    }, { threshold: 0.3 });
    watch.observe(root);
  }
})();
