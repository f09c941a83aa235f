// SPDX-License-Identifier: Apache-2.0
// A batch is built message by message and sent as one datagram, whose answers are there when it is sent.
#include "agent/nft.h"

#include "agent/nft_message.h"
#include "shared/util.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netlink/attr.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define BATCH_SIZE 8192

// --- batches ---

struct batch {
	char data[BATCH_SIZE];
	size_t len;
	uint32_t count; // messages, with the one that begins it
	bool broken;
};

// Copies and frees.
static void add(struct batch *batch, struct nl_msg *msg)
{
	const struct nlmsghdr *hdr = msg ? nlmsg_hdr(msg) : NULL;
	const size_t len = hdr ? NLMSG_ALIGN(hdr->nlmsg_len) : 0;

	if (!hdr || batch->len + len > sizeof(batch->data)) {
		batch->broken = true;
	} else {
		struct nlmsghdr *to = (struct nlmsghdr *)(void *)(batch->data + batch->len);

		memcpy(to, hdr, hdr->nlmsg_len);
		to->nlmsg_seq = ++batch->count;
		batch->len += len;
	}
	nlmsg_free(msg);
}

static void begin(struct batch *batch)
{
	*batch = (struct batch) { .len = 0 };
	add(batch, nft_message(NFNL_MSG_BATCH_BEGIN, 0, NFNL_SUBSYS_NFTABLES));
}

// All or nothing. Without its end the kernel checks a batch and takes it back (nfnetlink_rcv_batch). Its answers are
// there when send(2) returns; the first mistake is the one to tell.
static int finish(struct netsock *ns, struct batch *batch, bool commit, struct err *err)
{
	char answers[8192];
	int rc = 0;
	ssize_t n;

	if (commit)
		add(batch, nft_message(NFNL_MSG_BATCH_END, 0, NFNL_SUBSYS_NFTABLES));
	if (batch->broken)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	if (send(netsock_fd(ns), batch->data, batch->len, 0) != (ssize_t)batch->len)
		return err_set(err, errno ? -errno : -EIO, NULL, "netlink: %s", strerror(errno));
	while ((n = recv(netsock_fd(ns), answers, sizeof(answers), MSG_DONTWAIT)) > 0) {
		int left = (int)n;

		for (struct nlmsghdr *in = (struct nlmsghdr *)(void *)answers; nlmsg_ok(in, left);
			in = nlmsg_next(in, &left))
			if (in->nlmsg_type == NLMSG_ERROR && !rc)
				rc = netsock_error(in, err);
	}
	return rc;
}

// --- what is there ---

bool nft_has(const struct nft_table *table, const struct nft_rule *rule, uint64_t *ret_handle)
{
	// rules come in the order of their chain
	const size_t end = rule->what == NFT_ALLOW ? table->drop : table->count;

	for (size_t i = 0; i < end; i++) {
		if (!nft_message_same(nft_message_new_rule(rule), table->rules[i].expressions))
			continue;
		if (ret_handle)
			*ret_handle = table->rules[i].handle;
		return true;
	}
	return false;
}

static int take_rule(struct nlmsghdr *hdr, void *list)
{
	struct nlattr *attrs[NFTA_RULE_MAX + 1];
	struct nft_seen seen = { 0 };

	if (nlmsg_parse(hdr, sizeof(struct nfgenmsg), attrs, NFTA_RULE_MAX, NULL) < 0 || !attrs[NFTA_RULE_TABLE] ||
		!attrs[NFTA_RULE_HANDLE])
		return -EBADMSG;
	const struct nlattr *expressions = attrs[NFTA_RULE_EXPRESSIONS];

	if (!expressions || strcmp(nla_get_string(attrs[NFTA_RULE_TABLE]), NFT_OUR_TABLE) != 0)
		return 0;
	seen.of_directors =
		attrs[NFTA_RULE_CHAIN] && strcmp(nla_get_string(attrs[NFTA_RULE_CHAIN]), NFT_CHAIN_DIRECTORS) == 0;
	seen.handle = be64toh(nla_get_u64(attrs[NFTA_RULE_HANDLE]));
	seen.expressions = malloc((size_t)expressions->nla_len);
	if (!seen.expressions)
		return -ENOMEM;
	memcpy(seen.expressions, expressions, expressions->nla_len);
	int rc = netsock_list_add(list, &seen);

	if (rc)
		free(seen.expressions);
	return rc;
}

// A list of a dump that was broken off holds what the next attempt forgets.
static void forget(void *ctx)
{
	struct netsock_list *list = ctx;

	for (size_t i = 0; i < list->count; i++)
		free(((struct nft_seen *)list->items)[i].expressions);
	list->count = 0;
}

static int read_rules(struct netsock *ns, struct nft_table *table, struct err *err)
{
	struct netsock_list list = { .size = sizeof(struct nft_seen) };
	struct nl_msg *msg = nft_message_table(NFT_MSG_GETRULE, 0);
	int rc = msg ? netsock_dump(ns, msg, take_rule, forget, &list, err)
		     : err_set(err, -ENOMEM, NULL, "out of memory");

	nlmsg_free(msg);
	if (rc) {
		forget(&list);
		free(list.items);
		return rc;
	}
	table->rules = list.items;
	table->count = table->drop = list.count;
	for (size_t i = table->count; i-- > 0;)
		if (table->rules[i].of_directors &&
			nft_message_same(nft_message_new_fixed(NFT_DROP), table->rules[i].expressions))
			table->drop = i;
	for (size_t i = 0; i < table->count; i++)
		for (int which = 0; which < NFT_FIXED; which++)
			table->has[which] |= nft_message_same(
				nft_message_new_fixed((enum nft_fixed)which), table->rules[i].expressions);
	return 0;
}

static int take_chain(struct nlmsghdr *hdr, void *ctx)
{
	struct nft_table *table = ctx;
	struct nl_msg *want = nft_message_new_chain(NFT_CHAIN_INPUT, true);

	if (!want)
		return -ENOMEM;
	const struct nlattr *w, *h = nlmsg_attrdata(hdr, sizeof(struct nfgenmsg));
	int want_left = nlmsg_attrlen(nlmsg_hdr(want), sizeof(struct nfgenmsg)),
	    have_left = nlmsg_attrlen(hdr, sizeof(struct nfgenmsg));

	table->is_there = true;
	nla_for_each_attr(w, nlmsg_attrdata(nlmsg_hdr(want), sizeof(struct nfgenmsg)), want_left, want_left)
	{
		while (nla_ok(h, have_left) && nla_type(h) != nla_type(w))
			h = nla_next(h, &have_left);
		table->is_there &= nla_ok(h, have_left) && nft_message_covers(w, h);
	}
	table->is_other = !table->is_there;
	nlmsg_free(want);
	return 0;
}

int nft_read(struct netsock *ns, struct nft_table *ret, struct err *err)
{
	struct nft_table table = { 0 };
	struct nl_msg *msg = nft_message_table(NFT_MSG_GETCHAIN, 0);

	if (msg)
		nla_put_string(msg, NFTA_CHAIN_NAME, NFT_CHAIN_INPUT);
	int rc = msg ? netsock_get(ns, msg, take_chain, &table, err) : err_set(err, -ENOMEM, NULL, "out of memory");

	nlmsg_free(msg);
	if (rc == -ENOENT)
		rc = 0;
	if (!rc)
		rc = read_rules(ns, &table, err);
	if (rc) {
		err_context(err, "cannot read nftables: ");
		return rc;
	}
	for (int which = 0; which < NFT_FIXED; which++)
		table.is_there &= table.has[which];
	*ret = table;
	return 0;
}

void nft_table_clear(struct nft_table *table)
{
	for (size_t i = 0; i < table->count; i++)
		free(table->rules[i].expressions);
	free(table->rules);
	*table = (struct nft_table) { 0 };
}

int nft_read_dropped(struct netsock *ns, uint64_t *ret, struct err *err)
{
	struct nlattr *counter[NFTA_EXPR_MAX + 1], *values[NFTA_COUNTER_MAX + 1];
	struct nft_table table = { 0 };
	int rc = read_rules(ns, &table, err);

	*ret = 0;
	for (size_t i = 0; i < table.count && !rc; i++) {
		if (!nft_message_same(nft_message_new_fixed(NFT_DROP), table.rules[i].expressions))
			continue;
		// it is the first expression
		if (nla_parse_nested(counter, NFTA_EXPR_MAX, nla_data(table.rules[i].expressions), NULL) == 0 &&
			counter[NFTA_EXPR_DATA] &&
			nla_parse_nested(values, NFTA_COUNTER_MAX, counter[NFTA_EXPR_DATA], NULL) == 0 &&
			values[NFTA_COUNTER_PACKETS])
			*ret += be64toh(nla_get_u64(values[NFTA_COUNTER_PACKETS]));
	}
	nft_table_clear(&table);
	return rc;
}

bool nft_is_about_us(struct nlmsghdr *hdr)
{
	const int type = hdr->nlmsg_type & 0xff;
	const struct nlattr *table = hdr->nlmsg_type >> 8 == NFNL_SUBSYS_NFTABLES && type != NFT_MSG_NEWGEN
		? nlmsg_find_attr(hdr, sizeof(struct nfgenmsg), NFTA_TABLE_NAME)
		: NULL;

	return table && nla_len(table) == sizeof(NFT_OUR_TABLE) &&
		memcmp(nla_data(table), NFT_OUR_TABLE, sizeof(NFT_OUR_TABLE)) == 0;
}

// --- changes ---

static void add_table(struct batch *batch, const struct nft_table *seen)
{
	static const char *const chains[] = { NFT_CHAIN_DIRECTORS, NFT_CHAIN_HIDDEN, NFT_CHAIN_INPUT };

	add(batch, nft_message_table(NFT_MSG_NEWTABLE, NLM_F_CREATE));
	for (size_t i = 0; i < ARRAY_SIZE(chains); i++)
		add(batch, nft_message_new_chain(chains[i], i == ARRAY_SIZE(chains) - 1));
	for (int which = 0; which < NFT_FIXED; which++)
		if (!seen->has[which])
			add(batch, nft_message_new_fixed((enum nft_fixed)which));
}

int nft_add_table(struct netsock *ns, const struct nft_table *seen, struct err *err)
{
	struct batch batch;

	begin(&batch);
	add_table(&batch, seen);
	return finish(ns, &batch, true, err);
}

static int run_one(struct netsock *ns, struct nl_msg *msg, struct err *err)
{
	struct batch batch;

	begin(&batch);
	add(&batch, msg);
	return finish(ns, &batch, true, err);
}

int nft_add_rule(struct netsock *ns, const struct nft_rule *rule, struct err *err)
{
	return run_one(ns, nft_message_new_rule(rule), err);
}

int nft_delete_table(struct netsock *ns, struct err *err)
{
	int rc = run_one(ns, nft_message_table(NFT_MSG_DELTABLE, 0), err);

	return rc == -ENOENT ? 0 : rc;
}

int nft_delete_rule(struct netsock *ns, const struct nft_rule *rule, uint64_t handle, struct err *err)
{
	struct nl_msg *msg =
		nft_message_rule(NFT_MSG_DELRULE, 0, rule->what == NFT_ALLOW ? NFT_CHAIN_DIRECTORS : NFT_CHAIN_INPUT);

	if (msg)
		nla_put_u64(msg, NFTA_RULE_HANDLE, htobe64(handle));
	int rc = run_one(ns, msg, err);

	return rc == -ENOENT ? 0 : rc;
}

// The whole of what we use, checked by the kernel and not done.
int nft_open(struct netsock **ret, struct err *err)
{
	static const struct nft_table nothing;
	static const struct nft_rule rules[] = {
		{ NFT_LOCK, { { AF_INET, { 192, 0, 2, 1 } }, 32 }, IPPROTO_GRE, 0 },
		{ NFT_LOCK, { { AF_INET6, { 0x20, 1 } }, 128 }, IPPROTO_UDP, 1 },
		{ NFT_LOCK, { { AF_INET6, { 0x20, 1 } }, 128 }, IPPROTO_FRAGMENT, 0 },
		{ NFT_ALLOW, { { AF_INET, { 192, 0, 2, 0 } }, 30 }, 0, 0 },
	};
	_cleanup_(netsock_free_cleanup) struct netsock *ns = NULL;
	struct batch batch;
	int rc = netsock_open(NETLINK_NETFILTER, &ns, err);

	if (!rc) {
		begin(&batch);
		add_table(&batch, &nothing);
		for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
			add(&batch, nft_message_new_rule(&rules[i]));
		rc = finish(ns, &batch, false, err);
	}
	switch (rc) {
	case 0:
	case -EEXIST: // something of our names, in another place
	case -EBUSY:
	case -EPERM: // likewise, and another program has it for itself
		*ret = STEAL(ns);
		return 0;
	case -EOPNOTSUPP:
	case -EAFNOSUPPORT:
	case -EPROTONOSUPPORT:
	case -ENOENT: // no such kind of chain, or of expression
		return err_set(err, -EOPNOTSUPP, NULL, "this kernel has no nftables");
	default:
		return rc;
	}
}
