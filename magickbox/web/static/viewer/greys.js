// From stored values to what a screen shows: by a window, or by the table that came with the frame (PS3.3 C.11.2).

export const PRESETS = {
  CT: [["Soft tissue", 40, 400], ["Lung", -600, 1500], ["Bone", 300, 1500], ["Brain", 40, 80], ["Liver", 60, 160]],
};

// The window in which a frame wants to be looked at first.
export function firstWindow(frame) {
  return frame.window ? { center: frame.window[0], width: frame.window[1] } : null;
}

// The windows that can be chosen for a frame: its own, and those that are usual for its modality.
export function presets(frame, modality) {
  const own = (frame.windows ?? []).map(([center, width, name], n) => [name || `Window ${n + 1} of the file`, center, width]);
  return [...own, ...(PRESETS[modality] ?? [])];
}

// The window from the smallest to the largest value of a frame, padding left out.
export function fullRange(frame) {
  const { samples, padding } = frame;
  let low = Infinity, high = -Infinity;
  for (let at = 0; at < samples.length; at++) {
    const stored = frame.kind === "i2" && samples[at] > 32767 ? samples[at] - 65536 : samples[at];
    if (padding && stored >= padding[0] && stored <= padding[1]) continue;
    if (stored < low) low = stored;
    if (stored > high) high = stored;
  }
  if (low > high) return firstWindow(frame);
  const [from, to] = [low, high].map((stored) => stored * frame.slope + frame.intercept).sort((a, b) => a - b);
  const one = frame.function === "LINEAR" ? 1 : 0;
  return { center: (from + to + one) / 2, width: Math.max(to - from + one, Math.abs(frame.slope)) };
}

function share(value, { center, width }, kind) {
  if (kind === "SIGMOID") return 1 / (1 + Math.exp((-4 * (value - center)) / width));
  if (kind === "LINEAR_EXACT") return (value - center) / width + 0.5;
  return (value - (center - 0.5)) / Math.max(width - 1, 1e-6) + 0.5;
}

// 65536 colours as a canvas has them, one for each stored value; `window` null: as the file has it.
export function colours(frame, window, inverted) {
  const table = new Uint32Array(65536);
  const bytes = new Uint8Array(table.buffer);
  const signed = frame.kind === "i2";
  const { slope, intercept, padding } = frame;
  const look = window ?? firstWindow(frame);
  const own = window === null && frame.table;
  const most = frame.kind === "u1" ? 256 : 65536;
  for (let at = 0; at < most; at++) {
    const stored = signed && at > 32767 ? at - 65536 : at;
    let grey = own ? frame.table[at] : Math.floor(share(stored * slope + intercept, look, frame.function) * 255 + 0.5);
    grey = Math.max(0, Math.min(255, grey));
    if (frame.inverted && !own) grey = 255 - grey;
    if (padding && stored >= padding[0] && stored <= padding[1]) grey = 0;
    else if (inverted) grey = 255 - grey;
    bytes[4 * at] = bytes[4 * at + 1] = bytes[4 * at + 2] = grey;
    bytes[4 * at + 3] = 255;
  }
  return table;
}

// Paint a frame into a canvas of its own size.
export function paint(canvas, frame, window, inverted) {
  canvas.width = frame.columns;
  canvas.height = frame.rows;
  const context = canvas.getContext("2d", { alpha: false });
  const image = context.createImageData(frame.columns, frame.rows);
  const samples = frame.samples;
  if (frame.kind === "rgb") {
    const turn = inverted ? 255 : 0;
    for (let from = 0, to = 0; from < samples.length; from += 3, to += 4) {
      image.data[to] = samples[from] ^ turn;
      image.data[to + 1] = samples[from + 1] ^ turn;
      image.data[to + 2] = samples[from + 2] ^ turn;
      image.data[to + 3] = 255;
    }
  } else {
    const table = colours(frame, window, inverted);
    const pixels = new Uint32Array(image.data.buffer);
    for (let at = 0; at < samples.length; at++) pixels[at] = table[samples[at]];
  }
  context.putImageData(image, 0, 0);
}

// The value under a pixel in modality units.
export function valueAt(frame, x, y) {
  if (x < 0 || y < 0 || x >= frame.columns || y >= frame.rows) return "";
  const at = y * frame.columns + x;
  if (frame.kind === "rgb") return Array.from(frame.samples.subarray(3 * at, 3 * at + 3)).join(", ");
  const stored = frame.kind === "i2" && frame.samples[at] > 32767 ? frame.samples[at] - 65536 : frame.samples[at];
  const value = stored * frame.slope + frame.intercept;
  const unit = frame.unit && frame.unit !== "US" ? ` ${frame.unit}` : "";
  return `${Number.isInteger(value) ? value : value.toPrecision(5)}${unit}`;
}
