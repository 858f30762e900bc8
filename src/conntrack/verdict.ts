/** What a protocol's state machine says of a packet of a known connection. */
export const UPDATE_VALID = 0; //     established (or a reply)
export const UPDATE_VALID_NEW = 1; // still new: no reply has been seen
export const UPDATE_NEW = 2; //       the connection has ended and this packet starts another
export const UPDATE_INVALID = 3; //   not a packet that this connection could have
