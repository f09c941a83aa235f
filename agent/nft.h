// SPDX-License-Identifier: Apache-2.0
// Our table in nftables, which decides whose tunnel packets come in. Floor 2.
//
//   table inet brass-agent {
//     chain directors {                                         who may send
//       ip saddr 10.0.0.10 accept                               (NFT_ALLOW)
//       counter packets 17 bytes 1428 drop
//     }
//     chain hidden {                                            IPv6: the first piece of a packet that is not all there
//       @th,0,32 >= 0x0 return                                  that says what the packet is
//       jump directors
//     }
//     chain input { type filter hook input priority -10; policy accept;
//       ip daddr 10.2.0.11 meta l4proto ipip jump directors     what is looked at (NFT_LOCK)
//       ip6 daddr fd00::11 frag frag-off 0 jump hidden
//     }
//   }
//
// An accept ends this chain only, a drop is final, so that the order among other people's tables does not matter.
// Every change is one batch, which the kernel takes as a whole: a packet sees the rules before or after it. Rules of
// NFT_ALLOW are put before the drop, whatever the order in time.
//
// What a lock sees: IPv4 packets that were put together again (ip_local_deliver in net/ipv4/ip_input.c), but pieces of
// IPv6. Without the first, which says what the packet is, a packet is not put together, and the others may pass. A
// first one can be cut off before it says so, and the kernel takes that (ipv6frag_thdr_truncated in
// net/ipv6/reassembly.c): hence "hidden". What comes out of a UDP port goes on to its protocol without passing here
// again (net/ipv4/fou.c). Of GRE only what can reach a device without a key: version 0, in IPv4 without a key, and
// neither Ethernet nor ERSPAN (net/ipv4/ip_gre.c, net/ipv4/ip_tunnel.c).
//
// Rules are recognised by what they do, not by who made them: one that was typed by hand counts. Source:
// net/netfilter/nf_tables_api.c, nfnetlink.c (Linux 6.1).
#ifndef BRASS_AGENT_NFT_H
#define BRASS_AGENT_NFT_H

#include "shared/err.h"
#include "shared/inet.h"
#include "shared/netsock.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NFT_OUR_TABLE "brass-agent"

enum nft_what { NFT_LOCK, NFT_ALLOW };
struct nft_rule {
	enum nft_what what;
	struct inet_prefix addr; // LOCK: to whom; ALLOW: from whom
	uint8_t ip_protocol;     // ALLOW: 0: any. LOCK: IPPROTO_FRAGMENT: what is hidden in pieces
	uint16_t port;           // LOCK of UDP
};

enum nft_fixed { NFT_DROP, NFT_READABLE, NFT_HIDDEN, NFT_FIXED };

struct nft_table {
	bool is_there;       // whole but for locks and who is allowed
	bool is_other;       // something else of that name
	bool has[NFT_FIXED]; // the rules that are always there
	struct nft_seen {
		uint64_t handle;
		bool of_directors; // stands in that chain
		struct nlattr *expressions;
	} * rules;
	size_t count;
	size_t drop; // which rule drops all others: who is let in behind it is not let in. count: there is none
};

// A socket for all below. -EOPNOTSUPP: this kernel has no nftables, or lacks what we need of it.
int nft_open(struct netsock **ret, struct err *err);

int nft_read(struct netsock *ns, struct nft_table *ret, struct err *err);
void nft_table_clear(struct nft_table *table);
// Is the rule there, where it does what it says? *ret_handle (may be NULL) is what it is deleted by.
bool nft_has(const struct nft_table *table, const struct nft_rule *rule, uint64_t *ret_handle);
// Packets that were dropped since the table was made.
int nft_read_dropped(struct netsock *ns, uint64_t *ret, struct err *err);

// What is there of the table stays.
int nft_add_table(struct netsock *ns, const struct nft_table *seen, struct err *err);
int nft_add_rule(struct netsock *ns, const struct nft_rule *rule, struct err *err);
// Fine when it is gone already.
int nft_delete_table(struct netsock *ns, struct err *err);
int nft_delete_rule(struct netsock *ns, const struct nft_rule *rule, uint64_t handle, struct err *err);

// Behind `nft`, as a shell takes it: what makes the table, and what makes a rule.
#define NFT_TABLE_TEXT                                                                                                \
	"'add table inet " NFT_OUR_TABLE "; add chain inet " NFT_OUR_TABLE " directors; add rule inet " NFT_OUR_TABLE \
	" directors counter drop; add chain inet " NFT_OUR_TABLE " hidden; add rule inet " NFT_OUR_TABLE              \
	" hidden @th,0,32 >= 0 return; add rule inet " NFT_OUR_TABLE                                                  \
	" hidden jump directors; add chain inet " NFT_OUR_TABLE " input { type filter hook input priority -10; }'"
#define NFT_RULE_MAX 320
// chain and rule
const char *nft_rule_text(const struct nft_rule *rule, char buf[NFT_RULE_MAX]);

// A notification about our table (NFNLGRP_NFTABLES).
bool nft_is_about_us(struct nlmsghdr *hdr);

#endif
