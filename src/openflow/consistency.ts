/** Checks actions against the match of their flow, as ovs-ofctl does before it sends a flow and as the
 *  switch does when it takes one: prerequisites of the fields that they read and write, VLAN tags and
 *  MPLS stacks as they come and go, the direction of goto_table. */
import { CS_INV, FLOW } from '../classifier/flow-key.js';
import { ETH_TYPE_IP, IPPROTO_TCP, IPPROTO_UDP } from '../wire/extract.js';
import type { Field } from './fields.js';
import { checkLearn } from './learn-action.js';
import { isCtValid, isIp, isMpls, meets, PREREQ_TEXT, VLAN_CFI } from './match.js';
import type { Placed } from './placed.js';
import type { Problems, Span } from './tokens.js';
import type { Action, Match } from './types.js';

/** What only OpenFlow from 1.1 on can say, and what only 1.0 can. A flow goes to the switch in one
 *  version of OpenFlow, so it can't have both. */
interface Versions {
  /** The first thing that needs 1.1 or later, by name. */
  later: string | undefined;
  only10: { at: Span; needs: string } | undefined;
}

/** Checks the actions of a flow of `table` with this match. `later` names what else in the flow needs OpenFlow 1.1 or later. */
export function checkActions(
  placed: readonly Placed[],
  match: Match,
  table: number,
  problems: Problems,
  later?: string,
): void {
  const versions: Versions = { later, only10: undefined };
  new Checker(match, table, versions, problems).checkAll(placed);
  if (versions.later !== undefined && versions.only10 !== undefined) {
    problems.add(
      versions.only10.at,
      `together with ${versions.later} this needs a narrower match (OFPBAC_MATCH_INCONSISTENT)`,
      versions.only10.needs,
    );
  }
}

class Checker {
  /** What the packet is known to be at this place of the list. */
  private readonly match: Match;
  private readonly table: number;
  private readonly versions: Versions;
  private readonly problems: Problems;

  constructor(match: Match, table: number, versions: Versions, problems: Problems) {
    this.match = { value: match.value.slice(), mask: match.mask };
    this.table = table;
    this.versions = versions;
    this.problems = problems;
  }

  checkAll(placed: readonly Placed[]): void {
    for (const one of placed) this.check(one);
  }

  private get tagged(): boolean {
    return (this.match.value[FLOW.VLAN_0] & VLAN_CFI) !== 0;
  }

  /** A missing prerequisite that OpenFlow 1.0 lets pass. */
  private loose(ok: boolean, at: Span, needs: string): void {
    if (!ok) this.versions.only10 ??= { at, needs };
  }

  private need(f: Field, at: Span): void {
    if (meets(this.match, f.prereq, this.tagged)) return;
    this.problems.add(
      at,
      `${f.name} is not in every packet of this match (OFPBAC_MATCH_INCONSISTENT)`,
      `${PREREQ_TEXT[f.prereq]} in the match`,
    );
  }

  private check(one: Placed): void {
    const { action } = one;
    const { match, problems } = this;
    const tags = match.value;
    switch (action.kind) {
      case 'output_reg':
      case 'push':
        this.need(action.src.field, one.src ?? one.at);
        break;
      case 'move':
        this.need(action.src.field, one.src ?? one.at);
        this.need(action.dst.field, one.dst ?? one.at);
        break;
      case 'pop':
      case 'multipath':
        this.need(action.dst.field, one.dst ?? one.at);
        break;
      case 'bundle':
        if (action.dst !== undefined) this.need(action.dst.field, one.dst ?? one.at);
        break;
      case 'set':
        this.checkSet(action, one);
        break;
      case 'dec_ttl':
        this.loose(isIp(match), one.at, PREREQ_TEXT.ip);
        break;
      case 'dec_mpls_ttl':
        this.loose(isMpls(match), one.at, PREREQ_TEXT.mpls);
        break;
      case 'push_mpls':
        // What follows is opaque: nothing is known of its protocol.
        match.value[FLOW.ETH_TYPE] = action.ethertype;
        match.value[FLOW.NW] &= ~0xff;
        break;
      case 'pop_mpls':
        this.loose(isMpls(match), one.at, PREREQ_TEXT.mpls);
        match.value[FLOW.ETH_TYPE] = action.ethertype;
        break;
      case 'set_vlan_vid':
      case 'set_vlan_pcp':
        this.loose(this.tagged || one.wantsTag !== true, one.at, PREREQ_TEXT.vlan);
        tags[FLOW.VLAN_0] |= VLAN_CFI;
        break;
      case 'push_vlan':
        if ((tags[FLOW.VLAN_1] & VLAN_CFI) !== 0) {
          problems.add(one.at, 'there are two VLAN tags already (OFPBAC_BAD_TAG)', 'at most two tags');
        }
        this.versions.later ??= 'push_vlan';
        tags[FLOW.VLAN_1] = tags[FLOW.VLAN_0];
        tags[FLOW.VLAN_0] |= VLAN_CFI;
        break;
      case 'pop_vlan':
        this.loose(this.tagged, one.at, PREREQ_TEXT.vlan);
        tags[FLOW.VLAN_0] = tags[FLOW.VLAN_1];
        tags[FLOW.VLAN_1] = 0;
        break;
      case 'resubmit':
        if (action.ct === true && !isCtValid(match)) {
          problems.add(
            one.at,
            'resubmit with ct needs the original tuple of a connection (OFPBAC_MATCH_INCONSISTENT)',
            PREREQ_TEXT.ct,
          );
        }
        break;
      case 'fin_timeout':
        this.loose((match.value[FLOW.NW] & 0xff) === IPPROTO_TCP, one.at, PREREQ_TEXT.tcp);
        break;
      case 'learn':
        checkLearn(one as Placed<typeof action>, (src, at) => this.need(src.field, at), problems);
        break;
      case 'meter':
        this.versions.later ??= 'meter';
        break;
      case 'goto_table':
        if (action.table <= this.table) {
          problems.add(
            one.src ?? one.at,
            `goto_table goes back from table ${this.table}`,
            `a table after ${this.table}`,
          );
        }
        break;
      case 'clone':
        this.within(this.versions).checkAll(one.inner ?? []);
        break;
      case 'write_actions': {
        // What the packet will be when the set is executed isn't known.
        const versions: Versions = { later: undefined, only10: undefined };
        this.within(versions).checkAll(one.inner ?? []);
        this.versions.later ??= versions.later;
        break;
      }
      case 'ct':
        this.checkCt(action, one);
        break;
    }
  }

  /** The state of affairs for a list inside an action, which leaves no trace behind it. */
  private within(versions: Versions): Checker {
    return new Checker(this.match, this.table, versions, this.problems);
  }

  private checkSet(action: Action & { kind: 'set' }, one: Placed): void {
    const { field } = action;
    if (action.via === 'mod') {
      this.loose(meets(this.match, field.prereq, this.tagged), one.at, PREREQ_TEXT[field.prereq]);
      return;
    }
    this.need(field, one.dst ?? one.at);
    if (field.name === 'vlan_vid' && !this.tagged) {
      this.problems.add(
        one.dst ?? one.at,
        'vlan_vid can only be set if there is a tag (OFPBAC_MATCH_INCONSISTENT)',
        PREREQ_TEXT.vlan,
      );
    }
    if (field.name === 'vlan_tci') {
      this.match.value[FLOW.VLAN_0] = Number(action.value) & 0xffff;
    }
  }

  private checkCt(action: Action & { kind: 'ct' }, one: Placed): void {
    const { match, problems } = this;
    if (!isIp(match)) {
      problems.add(
        one.at,
        'ct() tracks only IP packets (OFPBAC_MATCH_INCONSISTENT)',
        'ip or ipv6 in the match, or a protocol over them',
      );
    }
    if (action.commit && (match.value[FLOW.CT_STATE] & CS_INV) !== 0) {
      problems.add(
        one.at,
        'ct(commit) of invalid packets (OFPBAC_MATCH_INCONSISTENT)',
        'a match without ct_state=+inv',
      );
    }
    const proto = match.value[FLOW.NW] & 0xff;
    if (action.alg !== undefined && proto !== (action.alg === 'ftp' ? IPPROTO_TCP : IPPROTO_UDP)) {
      problems.add(
        one.at,
        `alg=${action.alg} is not for every packet of this match (OFPBAC_MATCH_INCONSISTENT)`,
        `${action.alg === 'ftp' ? PREREQ_TEXT.tcp : PREREQ_TEXT.udp} in the match`,
      );
    }
    const { nat } = action;
    const v4 = match.value[FLOW.ETH_TYPE] === ETH_TYPE_IP;
    if (nat?.addrMin != null && isIp(match) && nat.ipv6 === v4) {
      problems.add(
        one.nat ?? one.at,
        `an ${v4 ? 'IPv6' : 'IPv4'} address for ${v4 ? 'IPv4' : 'IPv6'} packets (OFPBAC_MATCH_INCONSISTENT)`,
        v4 ? 'an IPv4 address, or ipv6 in the match' : 'an IPv6 address, or ip in the match',
      );
    }
    if (typeof action.zone !== 'number') this.need(action.zone.field, one.src ?? one.at);
    this.within(this.versions).checkAll(one.inner ?? []);
  }
}
