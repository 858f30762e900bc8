/** The npm package pcap-parser 0.2.1, which has no types: what `parser-reader.ts` uses of it. */
declare module 'pcap-parser' {
  interface PacketHeader {
    timestampSeconds: number;
    timestampMicroseconds: number;
    capturedLength: number;
    originalLength: number;
  }
  interface Packet {
    header: PacketHeader;
    data: Buffer;
  }
  /** What it needs of a stream. */
  interface Source extends NodeJS.EventEmitter {
    pause(): unknown;
    resume(): unknown;
  }
  interface Parser {
    on(event: 'packet', listener: (packet: Packet) => void): this;
    on(event: 'error', listener: (error: Error) => void): this;
    on(event: 'end', listener: () => void): this;
    on(
      event: 'globalHeader',
      listener: (header: { minorVersion: number; linkLayerType: number }) => void,
    ): this;
  }
  export function parse(input: Source | string): Parser;
}
