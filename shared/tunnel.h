// SPDX-License-Identifier: Apache-2.0
// Forwarding methods, and how the tunnels among them wrap packets. Floor 1.
#ifndef BRASS_SHARED_TUNNEL_H
#define BRASS_SHARED_TUNNEL_H

#include "shared/err.h"
#include "shared/field.h"

#include <stdbool.h>
#include <stdint.h>

// Forwarding methods. ipip is GORB's "tunnel".
enum forward_method { FORWARD_DR, FORWARD_IPIP, FORWARD_NAT, FORWARD_GUE, FORWARD_GRE };
extern const struct field_choice forward_method_choices[];

bool forward_is_tunnel(int method);

// How tunnel packets are wrapped, beyond the method.
enum tunnel_checksum { CHECKSUM_OFF, CHECKSUM_ON, CHECKSUM_REMOTE };
struct tunnel_options {
	uint16_t port; // gue: UDP port of the real server; 0: none
	int checksum;  // enum tunnel_checksum
};
extern const struct field_table tunnel_fields;

// Do these options suit the method? 0 or -EINVAL; the field begins with "tunnel.".
int tunnel_check(int method, const struct tunnel_options *tunnel, struct err *err);

// Bytes that wrapping adds, the outer IP header included; 0 for what is no tunnel (net/netfilter/ipvs/ip_vs_xmit.c,
// __ip_vs_get_out_rt; include/net/gue.h).
uint32_t tunnel_overhead(int method, const struct tunnel_options *tunnel, int outer_family);

#endif
