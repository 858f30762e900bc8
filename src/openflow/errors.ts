/** A change of the tables that the switch refuses, by the name that Open vSwitch's tools print
 *  (OpenFlow 1.5, section 7.5.4). The tables are as they were. */
export type OpenFlowErrorCode =
  | 'OFPBAC_BAD_OUT_GROUP'
  | 'OFPFMFC_OVERLAP'
  | 'OFPGMFC_BUCKET_EXISTS'
  | 'OFPGMFC_GROUP_EXISTS'
  | 'OFPGMFC_UNKNOWN_BUCKET'
  | 'OFPGMFC_UNKNOWN_GROUP'
  | 'OFPMMFC_INVALID_METER'
  | 'OFPMMFC_METER_EXISTS'
  | 'OFPMMFC_UNKNOWN_METER';

export class OpenFlowError extends Error {
  override name = 'OpenFlowError';
  readonly code: OpenFlowErrorCode;

  constructor(code: OpenFlowErrorCode) {
    super(code);
    this.code = code;
  }
}
