/** The view grid of an answer's `views` object: its cells, and how well the network recognised each. Pure functions. */

const VALUES = { rotation: "rotations", vertical: "vertical", horizontal: "horizontal", resize: "resizes" };

/**
 * Return every view as {rotation, vertical, horizontal, resize, heads, recognised}, in the order of the answer: quarter
 * turns counter-clockwise, pixels down and right, a factor; `heads` the probability of each head's true transformation;
 * `recognised` their mean.
 */
export function cells(views) {
  const plain = { rotation: 0, vertical: 0, horizontal: 0, resize: 1 };
  const made = [];
  const walk = (axis, cell, probabilities) => {
    if (axis === views.axes.length) {
      const heads = Object.fromEntries(views.heads.map((head, index) => [head, probabilities[index]]));
      made.push({ ...cell, heads, recognised: mean(probabilities) });
      return;
    }
    const name = views.axes[axis];
    views[VALUES[name]].forEach((value, index) => walk(axis + 1, { ...cell, [name]: value }, probabilities[index]));
  };
  walk(0, plain, views.probabilities);
  return made;
}

/**
 * Return the cells in blocks as they are shown, one for each rotation (and resize): {rotation, resize, columns, cells},
 * the cells by rows, each where its content moved: up at the top, left at the left.
 */
export function blocks(all) {
  const byBlock = new Map();
  for (const cell of all) {
    const key = `${cell.rotation} ${cell.resize}`;
    byBlock.set(key, [...(byBlock.get(key) ?? []), cell]);
  }
  return [...byBlock.values()].map((block) => ({
    rotation: block[0].rotation,
    resize: block[0].resize,
    columns: new Set(block.map((cell) => cell.horizontal)).size,
    cells: block.toSorted((one, other) => one.vertical - other.vertical || one.horizontal - other.horizontal),
  }));
}

/** Return the mean probability over all cells: of one head, or of all where `head` is null. */
export function overall(all, head = null) {
  return mean(all.map((cell) => (head === null ? cell.recognised : cell.heads[head])));
}

function mean(values) {
  const numbers = values.filter((value) => value !== null);
  return numbers.length ? numbers.reduce((sum, value) => sum + value, 0) / numbers.length : null;
}
