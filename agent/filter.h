// SPDX-License-Identifier: Apache-2.0
// The packet filter's rules in one form, whoever wrote them, and what becomes of a packet that meets them. Pure.
// Floor 2.
//
// Rules come from `nft -j list ruleset` (libnftables-json(5)) and from `iptables-save`. What a rule asks and this file
// does not know (marks, limits, times, foreign extensions) is neither true nor false: the answer is then "perhaps".
// Each base chain judges for itself, as in the kernel: an accept in one does not keep the next from dropping
// (net/netfilter/nf_tables_core.c, nft_do_chain; net/netfilter/core.c, nf_hook_slow).
#ifndef BRASS_AGENT_FILTER_H
#define BRASS_AGENT_FILTER_H

#include "shared/err.h"
#include "shared/inet.h"

#include <jansson.h>
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FILTER_NAME_MAX 64
#define FILTER_FLAG_SYN 2
#define FILTER_FLAG_ACK 16
#define FILTER_TEXT_MAX 200
#define FILTER_CHAINS_MAX 4096
#define FILTER_RULES_MAX 65536

enum filter_hook {
	FILTER_USER, // no hook: only jumped to
	FILTER_INGRESS,
	FILTER_PREROUTING,
	FILTER_INPUT,
	FILTER_FORWARD,
	FILTER_OUTPUT,
	FILTER_POSTROUTING,
};

// What conntrack calls a packet, as bits.
enum filter_state {
	FILTER_INVALID = 1,
	FILTER_ESTABLISHED = 2,
	FILTER_RELATED = 4,
	FILTER_NEW = 8,
	FILTER_UNTRACKED = 16,
};

enum filter_key {
	FILTER_FAMILY,
	FILTER_PROTOCOL,
	FILTER_SADDR,
	FILTER_DADDR,
	FILTER_SPORT,
	FILTER_DPORT,
	FILTER_IN,  // a device's name
	FILTER_OUT, // likewise
	FILTER_STATE,
	FILTER_FLAGS, // of TCP; a range is a mask and what the flags under it have to be
	FILTER_LOCAL, // the destination is an address of this host: 1 or 0
	FILTER_OTHER, // not known here
};

// Inclusive. Numbers stand in the first four bytes, addresses in all, both in network order; names are text in lo, and
// hi begins with 1 when only the beginning has to fit.
struct filter_range {
	uint8_t lo[16], hi[16];
};

// "this field is (not) in one of these ranges"
struct filter_match {
	enum filter_key key;
	bool inverted;
	int family; // of addresses
	struct filter_range *ranges;
	size_t count, room;
};

enum filter_verdict {
	FILTER_NEXT, // none: the next rule
	FILTER_ACCEPT,
	FILTER_DROP, // reject, too
	FILTER_RETURN,
	FILTER_JUMP,
	FILTER_GOTO,
	FILTER_DNAT, // another destination; redirect, too
	FILTER_NOTRACK,
	FILTER_CANNOT_TELL, // a queue, a foreign target
};

struct filter_rule {
	char text[FILTER_TEXT_MAX]; // as a person finds it again
	struct filter_match *matches;
	size_t count, room;
	enum filter_verdict verdict;
	char target[FILTER_NAME_MAX]; // JUMP, GOTO
};

enum filter_tool { FILTER_NFT, FILTER_IPTABLES, FILTER_IPTABLES_NFT, FILTER_IPTABLES_LEGACY };

struct filter_chain {
	enum filter_tool tool;
	int family;          // AF_INET, AF_INET6, AF_UNSPEC: both
	char family_name[8]; // as nft calls it
	char table[FILTER_NAME_MAX], name[FILTER_NAME_MAX];
	enum filter_hook hook;
	char device[IFNAMSIZ]; // INGRESS
	enum filter_verdict policy;
	struct filter_rule *rules;
	size_t count, room;
};

struct filter {
	struct filter_chain *chains;
	size_t count, room;
};

// Adds what is in the text. 0, -EINVAL with a sentence, -E2BIG, -ENOMEM; what was added before stays.
// nft: tables that iptables-nft keeps are left out when they are in the filter already: iptables-save says more of
// them.
int filter_read_nft(struct filter *filter, const char *text, size_t len, struct err *err);
int filter_read_iptables(struct filter *filter, enum filter_tool tool, int family, const char *text, struct err *err);
void filter_clear(struct filter *filter);

struct filter_packet {
	int family;
	int protocol;              // IP protocol
	struct inet_addr from, to; // from not set: not known
	uint16_t sport, dport;     // 0: not known, or none
	unsigned int flags;        // of TCP, as in its header
	const char *in, *out;      // devices; NULL: none
	unsigned int state;        // enum filter_state, one of them
	bool to_this_host;
};

// What a base chain makes of the packet.
struct filter_outcome {
	const struct filter_chain *base;
	const struct filter_rule *rule; // NULL: its policy
	enum filter_verdict verdict;    // DROP, DNAT or NOTRACK
	bool perhaps;                   // not everything about the rules is known
};
typedef void (*filter_outcome_fn)(void *ctx, const struct filter_outcome *outcome);

// Calls each for every base chain of the hook that does not just let the packet pass.
void filter_run(const struct filter *filter, enum filter_hook hook, const struct filter_packet *packet,
	filter_outcome_fn each, void *ctx);

// The command that lets such packets pass the base chain: "iptables -I INPUT -s 10.0.0.10 -p 4 -j ACCEPT". What is
// "not known" in the packet is left out, and so is a port of 0.
#define FILTER_COMMAND_MAX 320
const char *filter_pass_command(
	const struct filter_chain *base, const struct filter_packet *packet, char buf[FILTER_COMMAND_MAX]);
// "iptables filter INPUT: -A INPUT -p 4 -j DROP"
const char *filter_describe(const struct filter_outcome *outcome, char buf[FILTER_COMMAND_MAX]);

// For the readers. NULL without memory, or when there are too many.
struct filter_chain *filter_add_chain(struct filter *filter);
struct filter_rule *filter_add_rule(struct filter_chain *chain);
struct filter_match *filter_add_match(struct filter_rule *rule, enum filter_key key, bool inverted);
struct filter_chain *filter_find_chain(const struct filter *filter, enum filter_tool tool, const char *family_name,
	const char *table, const char *name);
// The bit of a TCP flag's name ("syn", "SYN"), 0: unknown.
unsigned int filter_flag(const char *name, size_t len);
// 0 or -ENOMEM.
int filter_add_number(struct filter_match *match, uint32_t lo, uint32_t hi);
int filter_add_name(struct filter_match *match, const char *name); // a final + or * stands for any ending
// "10.0.0.0/8", "10.0.0.1"; or from one address to another. -EINVAL: that is no address.
int filter_add_prefix(struct filter_match *match, const char *text);
int filter_add_addresses(struct filter_match *match, const char *lo, const char *hi);
void filter_match_forget(struct filter_match *match); // it asks for something that is not known

#endif
