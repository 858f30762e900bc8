/** Conversations between hosts on different ports, each with its own addresses in its own frames. */
import { ACK, type Bytes, type Ends, type EthOptions, FIN, PSH, RST, SYN, tcp } from '../packets.js';
import type { Script } from './script.js';

/** How the packets of one end enter the switch. */
export interface Way extends EthOptions {
  readonly port: number;
  readonly ends: Ends;
}

/** A TCP connection; `up` are the packets of whoever opens it. */
export class Talk {
  readonly #s: Script;
  readonly #up: Way;
  readonly #down: Way;
  #a = 1000;
  #b = 5000;

  constructor(s: Script, up: Way, down: Way) {
    this.#s = s;
    this.#up = up;
    this.#down = down;
  }

  up(flags: number, note?: string, data = 0): this {
    this.#s.pkt(this.#up.port, frame(this.#up, flags, this.#a, flags & ACK ? this.#b : 0, data), note);
    this.#a += data + (flags & (SYN | FIN) ? 1 : 0);
    return this;
  }

  down(flags: number, note?: string, data = 0): this {
    this.#s.pkt(this.#down.port, frame(this.#down, flags, this.#b, flags & ACK ? this.#a : 0, data), note);
    this.#b += data + (flags & (SYN | FIN) ? 1 : 0);
    return this;
  }

  open(note: string): this {
    return this.up(SYN, `${note}: SYN`)
      .down(SYN | ACK, 'SYN-ACK')
      .up(ACK, 'ACK');
  }

  exchange(n = 40): this {
    return this.up(PSH | ACK, 'request', n)
      .down(PSH | ACK, 'answer', 3 * n)
      .up(ACK);
  }

  close(): this {
    return this.up(FIN | ACK, 'FIN')
      .down(FIN | ACK)
      .up(ACK);
  }

  reset(): this {
    return this.down(RST | ACK, 'RST');
  }
}

function frame(w: Way, flags: number, seq: number, ack: number, data: number): Bytes {
  return tcp(w.ends, flags, seq, ack, { ...w, data });
}
