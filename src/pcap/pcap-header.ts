/** The classic pcap file header (draft-ietf-opsawg-pcap): 24 bytes.
 *
 *      magic 4 | major 2 | minor 2 | reserved 4 | reserved 4 | snaplen 4 | FCS length and flags 2, link type 2
 *
 *  The snapshot length is not used: real files carry 0, and packets longer than it; Wireshark ignores it too. */

import { type LinkKind, linkKind, unsupportedLinkType } from './link-types.js';
import { CaptureError } from './types.js';

export const PCAP_HEADER_BYTES = 24;

/** How to read the records behind a header. */
export interface PcapHeader {
  little: boolean;
  /** Nanoseconds a unit of the fraction field: 1 or 1000. */
  fractionNsec: number;
  /** 16, or 24 in Kuznetsov's variant (ifindex, protocol and packet type follow the lengths). */
  recordHeaderBytes: number;
  /** Files of version 2.0 to 2.2 have the two lengths swapped, those of 2.3 sometimes. */
  swapped: 'never' | 'maybe' | 'always';
  kind: LinkKind;
  /** True for the two magics that pcap-parser knows with the layout that it assumes. */
  plainMicroseconds: boolean;
}

/** Magics of variants that can't be read, in either byte order. */
const FOREIGN = new Map([
  [0xa1b234cd, 'a pcap variant written by FMESQUERY'],
  [0xa12b3c4d, 'a pcap variant written by NAVTEL'],
  [0x1c0001ac, 'an IXIA lcap capture (hardware)'],
  [0x1c0001ab, 'an IXIA lcap capture (software)'],
  [0x02214c18, 'an lz4 file of the legacy format; decompress it first (lz4 -d)'],
  [0x504b0304, 'a zip archive; unpack it first'],
  [0x736e6f6f, 'a snoop capture; convert it with editcap -F pcapng'],
  [0x474d4255, 'a Microsoft Network Monitor capture; convert it with editcap -F pcapng'],
  [0x52545353, 'a Microsoft Network Monitor capture; convert it with editcap -F pcapng'],
]);

/** True when `bytes` start as a classic pcap file that `parsePcapHeader` knows. */
export function isPcapMagic(bytes: Uint8Array): boolean {
  const magic = magicOf(bytes);
  return magic === 0xa1b2c3d4 || magic === 0xa1b23c4d || magic === 0xa1b2cd34;
}

/** What a file is that starts with these bytes and that we can't read. */
export function describeUnknown(bytes: Uint8Array): string {
  const seen = Buffer.from(bytes.subarray(0, 4)).toString('hex');
  let known: string | undefined;
  if (bytes.length >= 4) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    known = FOREIGN.get(view.getUint32(0)) ?? FOREIGN.get(view.getUint32(0, true));
  }
  if (bytes[0] === 0x42 && bytes[1] === 0x5a && bytes[2] === 0x68)
    known = 'a bzip2 file; decompress it first (bzip2 -d)';
  const what = known === undefined ? '' : `, ${known}`;
  return `not a capture that can be read: it starts with ${seen}${what}; supported are pcap (micro- and nanoseconds), pcapng, and either compressed with gzip, zstd, lz4 or xz`;
}

/** The magic in the order that makes it start with a1. */
function magicOf(bytes: Uint8Array): number {
  if (bytes.length < 4) return 0;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.getUint32(0, bytes[0] !== 0xa1);
}

/** Parses the first bytes of a classic capture. Throws CaptureError when they are fewer than 24, the version is
 *  not 2.0 to 2.4 (or DG/UX's 543.0), or the link type can't be read. */
export function parsePcapHeader(name: string, bytes: Uint8Array): PcapHeader {
  if (bytes.length < PCAP_HEADER_BYTES) {
    throw new CaptureError(
      name,
      bytes.length,
      `the pcap file header has ${PCAP_HEADER_BYTES} bytes and the file ends after ${bytes.length}; capture it again`,
    );
  }
  const little = bytes[0] !== 0xa1;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const magic = view.getUint32(0, little);
  const major = view.getUint16(4, little);
  const minor = view.getUint16(6, little);
  if (!(major === 2 && minor <= 4) && !(major === 543 && minor === 0)) {
    throw new CaptureError(name, 4, `pcap version ${major}.${minor} is not supported; 2.0 to 2.4 are`);
  }
  // The upper half holds the FCS length and flags.
  const linkType = view.getUint32(20, little) & 0xffff;
  const kind = linkKind(linkType);
  if (kind === undefined) throw new CaptureError(name, 20, unsupportedLinkType(linkType));
  const swapped = major === 543 || minor < 3 ? 'always' : minor === 3 ? 'maybe' : 'never';
  return {
    little,
    fractionNsec: magic === 0xa1b23c4d ? 1 : 1000,
    recordHeaderBytes: magic === 0xa1b2cd34 ? 24 : 16,
    swapped,
    kind,
    plainMicroseconds: magic === 0xa1b2c3d4 && swapped === 'never',
  };
}
