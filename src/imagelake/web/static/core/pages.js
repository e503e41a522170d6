// Items of a long list, fetched some at a time, where somebody looks.

const SIZE = 120;
const KEPT = 150; // pages; those that were looked at longest ago go first

/** `ask(offset, limit)` fetches items; `arrived(start, items)` is called with each page. */
export function pages(ask, arrived) {
  let known = new Map(); // page -> items, or a promise while they are under way
  let turn = 0;

  /** Fetch what is missing of a range of indexes. */
  function want(start, end) {
    for (let page = Math.floor(start / SIZE); page * SIZE < end; page++) {
      const there = known.get(page);
      if (there) {
        known.delete(page);
        known.set(page, there); // looked at last
      } else load(page);
    }
  }

  function load(page) {
    const mine = turn;
    known.set(page, "waiting");
    ask(page * SIZE, SIZE).then(
      (items) => {
        if (mine === turn) put(page, items);
      },
      () => {
        if (mine === turn) known.delete(page); // it is asked for again when somebody looks there
      },
    );
  }

  function put(page, items) {
    known.set(page, items);
    if (known.size > KEPT) known.delete(known.keys().next().value);
    arrived(page * SIZE, items);
  }

  return {
    want,
    /** The item of an index; null where it is not there yet. */
    get(index) {
      const found = known.get(Math.floor(index / SIZE));
      return Array.isArray(found) ? found[index % SIZE] || null : null;
    },
    /** Forget all of it: the list is another one. */
    clear() {
      turn++;
      known = new Map();
    },
  };
}
