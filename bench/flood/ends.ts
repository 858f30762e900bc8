/** Who talks in bench:flood: clients with a server over connections of their own, and strangers. */
import type { Ends } from '../../src/generate/frames.js';

export const SERVER = 0xc0a80001 | 0; // 192.168.0.1
export const CLIENTS = 0x0a000000; //    10.0.0.0
export const STRANGERS = 0x40000000; //  64.0.0.0/2
export const CLIENT_PORT = 20000;

/** Every other connection is TCP, the others are UDP. */
export function isTcp(connection: number): boolean {
  return connection % 2 === 0;
}

/** The ends of a real connection, in one direction; with `both`, every other pair of them is over IPv6. */
export function endsOf(connection: number, reply: boolean, both: boolean, serverPort: number): Ends {
  const client = CLIENTS + connection;
  const ipv6 = both && connection % 4 >= 2;
  return reply
    ? { src: SERVER, dst: client, sport: serverPort, dport: CLIENT_PORT, reply, ipv6 }
    : { src: client, dst: SERVER, sport: CLIENT_PORT, dport: serverPort, reply, ipv6 };
}

/** Where the server is asked, but for FTP. */
export function serverPort(connection: number): number {
  return isTcp(connection) ? 80 : 53;
}
