/** The library: what the command line is made of. It follows Semantic Versioning: what is exported here is its
 *  interface, and until 1.0 a minor version may change it. */
export { type Analysis, type AnalyzeOptions, analyze } from './analyze/analyze.js';
export {
  type PacketVerdict,
  records,
  type Stream,
  verdicts,
} from './analyze/iterate.js';
export type { Amount, Reconciliation } from './analyze/reconcile.js';
export type { Drop, FailedSource, Ranked, Scan, Summary, SummaryShare } from './analyze/summary.js';
export { type Change, type WhatIf, whatIf } from './analyze/what-if.js';
export { Verdict, type VerdictSink, type VerdictTemplate } from './coordinator/collector.js';
export {
  type ControlEvent,
  EventError,
  type EventOutcome,
  outcomeJson,
  parseEvents,
} from './coordinator/events.js';
export { ConnectionRecord, connState, type Ending } from './coordinator/record.js';
export { type PortMap, type ReplayOptions, type ReplayResult, replay } from './coordinator/replay.js';
export { formatRule } from './openflow/format.js';
export { type Ordering, orderingOf } from './openflow/order.js';
export { parseFlows } from './openflow/parser.js';
export { Pipeline, type PipelineInit } from './openflow/tables.js';
export { Translator } from './openflow/translate.js';
export { type FlowProblem, type FlowRule, FlowSyntaxError } from './openflow/types.js';
export type { Format, RecordOutput } from './output/records/formats.js';
export { recordJson } from './output/records/sinks.js';
export { minSegments, SegmentArena } from './pcap/arena.js';
export { compileFilter, FilterSyntaxError, type PacketFilter } from './pcap/filter.js';
export { MergedSource } from './pcap/merge.js';
export { openCapture } from './pcap/open.js';
export { CaptureError, type CaptureNotice } from './pcap/types.js';
