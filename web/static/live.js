// Streams of events that rest while their page is hidden. A browser has six connections to a site:
// without this, six pages in as many tabs take them all, and nothing more loads. A stream begins
// with what is so now, so that nothing is missed by one that rested.
"use strict";

class Stream extends EventTarget {
  #url;
  #source = null;
  #closed = false;
  #names = new Set();
  #pass = (event) => this.dispatchEvent(new MessageEvent(event.type, { data: event.data }));
  #turn = () => (document.hidden ? this.#rest() : this.#follow());

  constructor(url) {
    super();
    this.#url = url;
    document.addEventListener("visibilitychange", this.#turn);
    this.#turn();
  }

  get readyState() {
    if (this.#closed) return EventSource.CLOSED;
    return this.#source ? this.#source.readyState : EventSource.CONNECTING;
  }

  addEventListener(name, listener) {
    super.addEventListener(name, listener);
    if (this.#names.has(name)) return;
    this.#names.add(name);
    this.#source?.addEventListener(name, this.#pass);
  }

  close() {
    this.#closed = true;
    this.#rest();
    document.removeEventListener("visibilitychange", this.#turn);
  }

  #follow() {
    if (this.#closed || this.#source) return;
    const source = (this.#source = new EventSource(this.#url));
    source.onopen = (event) => this.onopen?.(event);
    source.onerror = (event) => {
      if (source.readyState === EventSource.CLOSED) this.close(); // whoever made it makes another
      this.onerror?.(event);
    };
    for (const name of this.#names) source.addEventListener(name, this.#pass);
  }

  #rest() {
    this.#source?.close();
    this.#source = null;
  }
}

htmx.createEventSource = (url) => new Stream(url);
