/** One question at a time: two that are to be compared must not slow each other down. */
export class Line {
  #last = Promise.resolve();

  /** What `question()` gives, once its turn has come; nothing is asked where `signal` was aborted by then. */
  ask(question, signal) {
    const turn = this.#last.then(() => {
      signal?.throwIfAborted();
      return question();
    });
    this.#last = turn.catch(() => {});
    return turn;
  }
}
