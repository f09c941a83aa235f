// SPDX-License-Identifier: Apache-2.0
// The messages of nft.h: tables, chains and rules as nftables wants them, and their comparison. Floor 2.
//
// New messages, NULL without memory; whoever asked frees them. Source: include/uapi/linux/netfilter/nf_tables.h.
#ifndef BRASS_AGENT_NFT_MESSAGE_H
#define BRASS_AGENT_NFT_MESSAGE_H

#include "agent/nft.h"

#include <netlink/msg.h>

#define NFT_CHAIN_INPUT "input"
#define NFT_CHAIN_DIRECTORS "directors"
#define NFT_CHAIN_HIDDEN "hidden"

struct nl_msg *nft_message(int type, int flags, uint16_t res_id);
// About our table, and about a rule in one of its chains: type is NFT_MSG_*.
struct nl_msg *nft_message_table(int type, int flags);
struct nl_msg *nft_message_rule(int type, int flags, const char *chain);

struct nl_msg *nft_message_new_chain(const char *name, bool is_base);
struct nl_msg *nft_message_new_rule(const struct nft_rule *rule);
struct nl_msg *nft_message_new_fixed(enum nft_fixed which);

// Is every attribute of want in have, with the same content? Nested ones are told by their flag, which ours have.
bool nft_message_covers(const struct nlattr *want, const struct nlattr *have);
// Does the rule of this message, which is freed, do what these expressions do?
bool nft_message_same(struct nl_msg *msg, const struct nlattr *have);

#endif
