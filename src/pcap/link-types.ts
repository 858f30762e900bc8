/** Link types: which captures can be read, and how each becomes Ethernet.
 *
 *  The program works on Ethernet frames. A packet of another supported link type is turned into one in place:
 *  14 bytes of Ethernet header are written over the bytes in front of its payload, which are its own record or
 *  link header, already parsed, and at least 12 bytes of record header; with the two bytes before those (the
 *  tail of the previous block's length, or headroom) there is always room.
 *
 *  Numbers and layouts: draft-ietf-opsawg-pcaplinktype and https://www.tcpdump.org/linktypes.html. */

import type { PacketRecord } from './types.js';

/** How packets of a supported link type are converted. */
export const LinkKind = {
  ETHERNET: 0,
  /** Raw IP, version in the first nibble. */
  RAW: 1,
  RAW_IPV4: 2,
  RAW_IPV6: 3,
  /** BSD loopback: four bytes of address family in the byte order of the machine that captured. */
  NULL: 4,
  /** OpenBSD loopback: the same in network byte order. */
  LOOP: 5,
  SLL: 6,
  SLL2: 7,
} as const;
export type LinkKind = (typeof LinkKind)[keyof typeof LinkKind];

const { ETHERNET, RAW, RAW_IPV4, RAW_IPV6, NULL, LOOP, SLL, SLL2 } = LinkKind;

/** Link type number -> kind. 12 and 14 are DLT_RAW as various systems wrote it into files. */
const KINDS: ReadonlyMap<number, LinkKind> = new Map<number, LinkKind>([
  [0, NULL],
  [1, ETHERNET],
  [12, RAW],
  [14, RAW],
  [101, RAW],
  [108, LOOP],
  [113, SLL],
  [228, RAW_IPV4],
  [229, RAW_IPV6],
  [276, SLL2],
]);

const NAMES: ReadonlyMap<number, string> = new Map([
  [2, 'experimental Ethernet'],
  [3, 'AX.25'],
  [6, 'IEEE 802.5 Token Ring'],
  [7, 'ARCNET BSD'],
  [8, 'SLIP'],
  [9, 'PPP'],
  [10, 'FDDI'],
  [50, 'PPP in HDLC framing'],
  [51, 'PPPoE'],
  [100, 'LLC/SNAP ATM'],
  [104, 'Cisco HDLC'],
  [105, 'IEEE 802.11'],
  [107, 'Frame Relay'],
  [114, 'LocalTalk'],
  [117, 'OpenBSD pflog'],
  [119, 'Prism header and IEEE 802.11'],
  [122, 'IP over Fibre Channel'],
  [127, 'radiotap header and IEEE 802.11'],
  [129, 'ARCNET Linux'],
  [138, 'Apple IP over IEEE 1394'],
  [143, 'DOCSIS'],
  [144, 'Linux IrDA'],
  [149, 'reserved for private use'],
  [163, 'AVS header and IEEE 802.11'],
  [165, 'BACnet MS/TP'],
  [166, 'PPP with direction'],
  [182, 'reserved for Juniper'],
  [187, 'Bluetooth HCI H4'],
  [189, 'USB, Linux'],
  [190, 'CAN'],
  [192, 'PPI'],
  [195, 'IEEE 802.15.4'],
  [201, 'Bluetooth HCI H4 with direction'],
  [204, 'PPP with direction'],
  [220, 'USB, Linux, padded'],
  [224, 'Fibre Channel FC-2'],
  [226, 'Solaris IPNET'],
  [227, 'SocketCAN'],
  [230, 'IEEE 802.15.4 without FCS'],
  [231, 'D-Bus'],
  [239, 'NFLOG'],
  [240, 'Hilscher netANALYZER'],
  [242, 'IP over InfiniBand'],
  [247, 'InfiniBand'],
  [248, 'SCTP'],
  [249, 'USBPcap'],
  [251, 'Bluetooth Low Energy'],
  [252, 'Wireshark upper PDU'],
  [253, 'Linux netlink'],
  [254, 'Bluetooth Linux Monitor'],
  [256, 'Bluetooth Low Energy with PHDR'],
  [258, 'Apple PKTAP'],
  [265, 'NFC LLCP'],
  [271, 'Linux vsock monitor'],
  [272, 'Nordic BLE sniffer'],
  [274, 'Ethernet mPacket'],
  [283, 'IEEE 802.15.4 TAP'],
  [288, 'USB 2.0'],
]);

/** The link types that can be read, for messages and documentation. */
export const SUPPORTED_LINK_TYPES =
  '1 (Ethernet), 0 and 108 (BSD loopback), 12, 14 and 101 (raw IP), 228 (IPv4), 229 (IPv6), 113 and 276 (Linux cooked)';

/** The kind of a link type number, or undefined when it cannot be read. */
export function linkKind(linkType: number): LinkKind | undefined {
  return KINDS.get(linkType);
}

/** Why a capture of that link type cannot be read, and what to do. */
export function unsupportedLinkType(linkType: number): string {
  const name = NAMES.get(linkType);
  const what = name === undefined ? String(linkType) : `${linkType} (${name})`;
  return `link type ${what} is not supported; supported are ${SUPPORTED_LINK_TYPES}; capture on such an interface, or convert the file first`;
}

const ETHERNET_HEADER = 14;
/** Short of one byte of an Ethernet header: how a packet cut inside its link header is delivered. */
const CUT_HEADER = ETHERNET_HEADER - 1;

const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
/** Reserved by RFC 1701: what a payload of unknown kind is labelled, so that nobody parses it. */
const ETHERTYPE_UNKNOWN = 0xffff;
const ETHERTYPE_MIN = 0x600;
const MAX_802_3_LENGTH = 1500;

/** Turns the packet that `packet` describes (off, capLen, wireLen: as captured, link header included) into an
 *  Ethernet frame within `u8` and adjusts those three. `u8[packet.off - 14 ...]` must be writable.
 *
 *  MAC addresses are zero, but a cooked packet's six-byte source address is kept. A payload that is neither
 *  IPv4 nor IPv6 by nibble or address family gets EtherType 0xffff. Cooked protocols below 0x600 (802.2 LLC, raw
 *  802.3) get an 802.3 length field. A packet cut inside its link header becomes a frame of what is there, at
 *  most 13 bytes, so that it counts as one with a truncated Ethernet header. */
export function toEthernet(kind: LinkKind, u8: Uint8Array, packet: PacketRecord): void {
  const off = packet.off;
  const capLen = packet.capLen;
  switch (kind) {
    case RAW:
    case RAW_IPV4:
    case RAW_IPV6: {
      let type = kind === RAW_IPV6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4;
      if (kind === RAW) {
        const version = capLen > 0 ? u8[off] >> 4 : 0;
        type = version === 4 ? ETHERTYPE_IPV4 : version === 6 ? ETHERTYPE_IPV6 : ETHERTYPE_UNKNOWN;
      }
      putHeader(u8, off - ETHERNET_HEADER, type);
      reframe(packet, 0);
      return;
    }
    case NULL:
    case LOOP: {
      if (capLen < 4) return;
      let family = ((u8[off] << 24) | (u8[off + 1] << 16) | (u8[off + 2] << 8) | u8[off + 3]) >>> 0;
      // Families are small: the order in which the value is small is the order it was written in.
      if (kind === NULL && family > 0xffff) family = swap32(family);
      putHeader(u8, off + 4 - ETHERNET_HEADER, familyEtherType(family));
      reframe(packet, 4);
      return;
    }
    case SLL: {
      // type 2 | ARPHRD 2 | address length 2 | address 8 | protocol 2: the frame starts at byte 2, and the
      // protocol already lies where the EtherType goes.
      if (capLen < 16) {
        cutHeader(packet);
        return;
      }
      const frame = off + 2;
      if (((u8[off + 4] << 8) | u8[off + 5]) === 6) u8.copyWithin(off + 8, off + 6, off + 12);
      else u8.fill(0, off + 8, off + 14);
      u8.fill(0, frame, frame + 6);
      reframe(packet, 16);
      lengthField(u8, packet);
      return;
    }
    case SLL2: {
      // protocol 2 | reserved 2 | ifindex 4 | ARPHRD 2 | type 1 | address length 1 | address 8: the frame starts
      // at byte 6, and the address already lies in its source field.
      if (capLen < 20) {
        cutHeader(packet);
        return;
      }
      const frame = off + 6;
      if (u8[off + 11] !== 6) u8.fill(0, off + 12, off + 18);
      u8[off + 18] = u8[off];
      u8[off + 19] = u8[off + 1];
      u8.fill(0, frame, frame + 6);
      reframe(packet, 20);
      lengthField(u8, packet);
      return;
    }
    default:
      return;
  }
}

function swap32(x: number): number {
  return ((x >>> 24) | ((x >>> 8) & 0xff00) | ((x << 8) & 0xff0000) | (x << 24)) >>> 0;
}

/** AF_INET is 2 everywhere. AF_INET6 is 10 on Linux, 23 on Windows, 24 on NetBSD and OpenBSD, 28 on FreeBSD, 30 on
 *  macOS. Some writers put an EtherType there. */
function familyEtherType(family: number): number {
  if (family === 2) return ETHERTYPE_IPV4;
  if (family === 10 || family === 23 || family === 24 || family === 28 || family === 30)
    return ETHERTYPE_IPV6;
  if (family >= ETHERTYPE_MIN && family <= 0xffff) return family;
  return ETHERTYPE_UNKNOWN;
}

/** Writes an Ethernet header with zero addresses. */
function putHeader(u8: Uint8Array, at: number, etherType: number): void {
  u8.fill(0, at, at + 12);
  u8[at + 12] = etherType >> 8;
  u8[at + 13] = etherType & 0xff;
}

/** Replaces a link header of `linkBytes` by the 14 bytes in front of the payload. */
function reframe(packet: PacketRecord, linkBytes: number): void {
  const grow = ETHERNET_HEADER - linkBytes;
  packet.off -= grow;
  packet.capLen += grow;
  packet.wireLen += grow;
}

function cutHeader(packet: PacketRecord): void {
  if (packet.capLen > CUT_HEADER) packet.capLen = CUT_HEADER;
}

/** Cooked captures keep the kernel's protocol number there when the frame had a length (ETH_P_802_2 = 4,
 *  ETH_P_802_3 = 1): put a length back, at most 1500 because more would be an EtherType. */
function lengthField(u8: Uint8Array, packet: PacketRecord): void {
  const at = packet.off + 12;
  if (((u8[at] << 8) | u8[at + 1]) >= ETHERTYPE_MIN) return;
  const length = Math.min(packet.wireLen - ETHERNET_HEADER, MAX_802_3_LENGTH);
  u8[at] = length >> 8;
  u8[at + 1] = length & 0xff;
}
