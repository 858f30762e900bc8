/** A virtual address whose new connections a select group shares out among backends, and what is done to the group while
 *  they come. Used by the benchmark and by the tests. */

/** Way of choosing a bucket, in the words of ovs-ofctl(8). */
export interface Method {
  readonly name: string;
  /** What the group says of it. */
  readonly text: string;
  /** `slots`: hash values are shared out by weight. `score`: the bucket with the highest hash times weight. */
  readonly kind: 'slots' | 'score';
}

export const METHODS: readonly Method[] = [
  { name: 'default', text: '', kind: 'slots' },
  { name: 'dp_hash', text: 'selection_method=dp_hash,', kind: 'slots' },
  {
    name: 'hash, 5-tuple',
    text: 'selection_method=hash,fields(ip_src,ip_dst,nw_proto,udp_src,udp_dst),',
    kind: 'score',
  },
  { name: 'hash, source', text: 'selection_method=hash,fields(ip_src),', kind: 'score' },
];

export interface Backend {
  readonly id: number;
  readonly weight: number;
}

/** Backend `id` has this address, and bucket `id` watches this port. */
export const backendAddress = (id: number): string => `10.1.0.${id}`;
export const watchedPort = (id: number): number => 100 + id;

export const VIRTUAL = '10.254.0.1';
export const CLIENT_PORT = 1;
export const BACKEND_PORT = 2;

export const BALANCED_FLOWS = `# New connections to ${VIRTUAL} get a backend from the group; all others keep theirs.
table=0,in_port=${CLIENT_PORT},udp,nw_dst=${VIRTUAL},actions=ct(zone=1,nat,table=1)
table=0,in_port=${BACKEND_PORT},udp,actions=ct(zone=1,nat,table=3)
table=1,priority=2,udp,ct_state=+trk+new,actions=group:1
table=1,priority=1,udp,ct_state=+trk+est,actions=output:${BACKEND_PORT}
table=2,actions=output:${BACKEND_PORT}
table=3,udp,ct_state=+trk+est,actions=output:${CLIENT_PORT}
`;

export function bucketText({ id, weight }: Backend): string {
  const nat = `ct(commit,zone=1,nat(dst=${backendAddress(id)}:8080),table=2)`;
  return `bucket=bucket_id:${id},weight:${weight},watch_port:${watchedPort(id)},actions=${nat}`;
}

export function groupText(method: Method, backends: readonly Backend[]): string {
  return `group_id=1,type=select,${method.text}${backends.map(bucketText).join(',')}`;
}

/** Something that is done to the group. */
export interface Change {
  readonly name: string;
  /** Objects of an events file, without their time. */
  readonly events: (method: Method, backends: readonly Backend[]) => readonly object[];
  /** The backends that new connections may get from then on. */
  readonly after: (backends: readonly Backend[]) => readonly Backend[];
}

/** To the second backend from the end, or beside all others. */
export const CHANGES: readonly Change[] = [
  {
    name: 'down',
    events: (_, b) => [{ port: [watchedPort(b[b.length - 2].id), 'down'] }],
    after: (b) => b.filter((_, i) => i !== b.length - 2),
  },
  {
    name: 'removed',
    events: (_, b) => [{ ofctl: ['remove-buckets', `group_id=1,command_bucket_id=${b[b.length - 2].id}`] }],
    after: (b) => b.filter((_, i) => i !== b.length - 2),
  },
  {
    name: 'added',
    events: (_, b) => [
      { ofctl: ['insert-buckets', `group_id=1,command_bucket_id=last,${bucketText(added(b))}`] },
    ],
    after: (b) => [...b, added(b)],
  },
  {
    name: 'doubled',
    events: (method, b) => [{ ofctl: ['mod-group', groupText(method, doubled(b))] }],
    after: doubled,
  },
];

function added(b: readonly Backend[]): Backend {
  return { id: b.length + 1, weight: b[b.length - 2].weight };
}

function doubled(b: readonly Backend[]): Backend[] {
  return b.map((x, i) => (i === b.length - 2 ? { ...x, weight: 2 * x.weight } : x));
}

/** Each backend's share of new connections, by the method's own arithmetic. By slots that is the weight, as near as the
 *  number of slots allows. By score the chance that a uniform number times the weight is the highest:
 *  the integral over u of the product of the chances that each other one is lower. */
export function shares(method: Method, backends: readonly Backend[]): number[] {
  const total = backends.reduce((sum, b) => sum + b.weight, 0);
  if (method.kind === 'slots') return backends.map((b) => b.weight / total);
  const STEPS = 20_000;
  return backends.map((b) => {
    let sum = 0;
    for (let k = 0; k < STEPS; k++) {
      const score = ((k + 0.5) / STEPS) * b.weight;
      let lower = 1;
      for (const other of backends) if (other !== b) lower *= Math.min(1, score / other.weight);
      sum += lower;
    }
    return sum / STEPS;
  });
}

/** The share of connections that a change must move: what the backends that lose something lose. */
export function least(before: ReadonlyMap<number, number>, after: ReadonlyMap<number, number>): number {
  let moved = 0;
  for (const [id, share] of before) moved += Math.max(0, share - (after.get(id) ?? 0));
  return moved;
}

export const byId = (backends: readonly Backend[], values: readonly number[]): Map<number, number> =>
  new Map(backends.map((b, i) => [b.id, values[i]]));
