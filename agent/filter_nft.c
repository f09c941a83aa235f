// SPDX-License-Identifier: Apache-2.0
// libnftables-json(5). Only what decides a packet's way is understood; a statement that asks for something else makes
// its rule fit "perhaps", one that only counts or marks is passed over.
#include "agent/filter_nft_match.h"
#include "shared/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	enum filter_hook hook;
} hooks[] = {
	{ "ingress", FILTER_INGRESS },
	{ "prerouting", FILTER_PREROUTING },
	{ "input", FILTER_INPUT },
	{ "forward", FILTER_FORWARD },
	{ "output", FILTER_OUTPUT },
	{ "postrouting", FILTER_POSTROUTING },
};

static const struct {
	const char *name;
	enum filter_verdict verdict;
} verdicts[] = {
	{ "accept", FILTER_ACCEPT },
	{ "drop", FILTER_DROP },
	{ "reject", FILTER_DROP },
	{ "return", FILTER_RETURN },
	{ "jump", FILTER_JUMP },
	{ "goto", FILTER_GOTO },
	{ "dnat", FILTER_DNAT },
	{ "redirect", FILTER_DNAT },
	{ "tproxy", FILTER_DNAT },
	{ "notrack", FILTER_NOTRACK },
	{ "queue", FILTER_CANNOT_TELL },
};

static const struct {
	const char *name;
	int family;
} families[] = { { "ip", AF_INET }, { "ip6", AF_INET6 }, { "inet", AF_UNSPEC }, { "netdev", AF_UNSPEC } };

struct reading {
	struct filter *filter;
	const json_t *objects;
};

// --- rules ---

static bool take_verdict(struct filter_rule *rule, const char *name, const json_t *value)
{
	for (size_t i = 0; i < ARRAY_SIZE(verdicts); i++) {
		if (strcmp(verdicts[i].name, name) != 0)
			continue;
		rule->verdict = verdicts[i].verdict;
		snprintf(rule->target, sizeof(rule->target), "%s", filter_nft_word(value, "target"));
		return true;
	}
	return false;
}

// "nft list" finds it by its handle.
static void name_rule(struct filter_rule *rule, const json_t *of)
{
	snprintf(rule->text, sizeof(rule->text), "chain %s, rule handle %d%s%.100s", filter_nft_word(of, "chain"),
		(int)json_integer_value(json_object_get(of, "handle")), *filter_nft_word(of, "comment") ? ", " : "",
		filter_nft_word(of, "comment"));
}

static int take_rule(struct reading *r, struct filter_chain *chain, const json_t *of, const json_t *verdict_map,
	const json_t *element);

// {"vmap": {"key": ..., "data": {"set": [[value, verdict], ...]}}}: one rule for each element.
static int spread(struct reading *r, struct filter_chain *chain, const json_t *of, const json_t *map)
{
	const json_t *data = json_object_get(map, "data"), *elements = json_object_get(data, "set");
	const char *name = json_string_value(data);
	size_t i;
	json_t *item;

	json_array_foreach ((json_t *)(uintptr_t)r->objects, i, item) {
		const json_t *named = json_object_get(item, "map");

		if (name && named && strcmp(filter_nft_word(named, "name"), name + 1) == 0 &&
			strcmp(filter_nft_word(named, "table"), filter_nft_word(of, "table")) == 0 &&
			strcmp(filter_nft_word(named, "family"), filter_nft_word(of, "family")) == 0)
			elements = json_object_get(named, "elem");
	}
	json_array_foreach ((json_t *)(uintptr_t)elements, i, item) {
		int rc = take_rule(r, chain, of, map, item);

		if (rc)
			return rc;
	}
	return 0;
}

static int take_statement(
	struct reading *r, struct filter_rule *rule, const char *name, const json_t *value, const json_t *of)
{
	static const char *const conditions[] = { "limit", "xt", "ct count", "quota", "connlimit", "socket", "osf" };

	if (strcmp(name, "match") == 0)
		return filter_nft_match(r->objects, rule, json_object_get(value, "left"),
			json_object_get(value, "right"), filter_nft_word(value, "op"), of);
	if (take_verdict(rule, name, value))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(conditions); i++)
		if (strcmp(conditions[i], name) == 0)
			return filter_add_match(rule, FILTER_OTHER, false) ? 0 : -ENOMEM;
	return 0;
}

// With an element of a verdict map: the rule as if only that element were in it.
static int take_rule(struct reading *r, struct filter_chain *chain, const json_t *of, const json_t *verdict_map,
	const json_t *element)
{
	struct filter_rule *rule = filter_add_rule(chain);
	size_t i;
	json_t *statement;

	if (!rule)
		return -ENOMEM;
	name_rule(rule, of);
	json_array_foreach (json_object_get(of, "expr"), i, statement) {
		const json_t *value, *verdict;
		const char *name = filter_nft_only(statement, &value);
		int rc = 0;

		if (strcmp(name, "vmap") != 0) {
			rc = take_statement(r, rule, name, value, of);
		} else if (verdict_map) {
			const char *what = filter_nft_only(json_array_get(element, 1), &verdict);

			rc = filter_nft_match(r->objects, rule, json_object_get(verdict_map, "key"),
				json_array_get(element, 0), "==", of);
			take_verdict(rule, what, verdict);
		} else {
			chain->count--; // its matches stand in each of the rules that it becomes
			for (size_t m = 0; m < rule->count; m++)
				free(rule->matches[m].ranges);
			free(rule->matches);
			return spread(r, chain, of, value);
		}
		if (rc)
			return rc;
	}
	return 0;
}

static int take_chain(struct reading *r, const json_t *of)
{
	const char *family = filter_nft_word(of, "family");
	size_t known = 0;

	while (known < ARRAY_SIZE(families) && strcmp(families[known].name, family) != 0)
		known++;
	// a bridge's packets are not this host's
	if (known == ARRAY_SIZE(families) ||
		filter_find_chain(r->filter, FILTER_IPTABLES_NFT, family, filter_nft_word(of, "table"), NULL))
		return 0;
	struct filter_chain *chain = filter_add_chain(r->filter);
	if (!chain)
		return -E2BIG;
	chain->tool = FILTER_NFT;
	chain->family = families[known].family;
	snprintf(chain->family_name, sizeof(chain->family_name), "%s", family);
	snprintf(chain->table, sizeof(chain->table), "%s", filter_nft_word(of, "table"));
	snprintf(chain->name, sizeof(chain->name), "%s", filter_nft_word(of, "name"));
	snprintf(chain->device, sizeof(chain->device), "%s", filter_nft_word(of, "dev"));
	chain->policy = strcmp(filter_nft_word(of, "policy"), "drop") == 0 ? FILTER_DROP : FILTER_ACCEPT;
	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++)
		if (strcmp(hooks[i].name, filter_nft_word(of, "hook")) == 0)
			chain->hook = hooks[i].hook;
	return 0;
}

static int take_object(struct reading *r, const json_t *object)
{
	const json_t *value;
	const char *kind = filter_nft_only(object, &value);

	if (strcmp(kind, "chain") == 0)
		return take_chain(r, value);
	if (strcmp(kind, "rule") != 0)
		return 0;
	struct filter_chain *chain = filter_find_chain(r->filter, FILTER_NFT, filter_nft_word(value, "family"),
		filter_nft_word(value, "table"), filter_nft_word(value, "chain"));
	return chain ? take_rule(r, chain, value, NULL, NULL) : 0;
}

// iptables-save lists a table of nft's own as well when it has a name of iptables', but does not see its hooks. Such a
// table is nft's: what iptables said of it is forgotten.
static void disown(struct reading *r, const json_t *of)
{
	const char *family = filter_nft_word(of, "family"), *table = filter_nft_word(of, "table");
	const struct filter_chain *same =
		filter_find_chain(r->filter, FILTER_IPTABLES_NFT, family, table, filter_nft_word(of, "name"));
	struct filter_chain *chain;

	if (!*filter_nft_word(of, "hook") || (same && same->hook != FILTER_USER))
		return;
	while ((chain = filter_find_chain(r->filter, FILTER_IPTABLES_NFT, family, table, NULL))) {
		chain->hook = FILTER_USER;
		chain->table[0] = '\0';
	}
}

int filter_read_nft(struct filter *filter, const char *text, size_t len, struct err *err)
{
	json_error_t where;
	json_t *root = json_loadb(text, len, 0, &where), *object;
	struct reading r = { filter, json_object_get(root, "nftables") };
	int rc = json_is_array(r.objects) ? 0
					  : err_set(err, -EINVAL, NULL, "this is not what nft prints: %.100s",
						    root ? "no \"nftables\"" : where.text);
	size_t i;

	json_array_foreach ((json_t *)(uintptr_t)r.objects, i, object)
		disown(&r, json_object_get(object, "chain"));
	json_array_foreach ((json_t *)(uintptr_t)r.objects, i, object) {
		rc = take_object(&r, object);
		if (rc) {
			err_set(err, rc, NULL, "more chains or rules than are looked at");
			break;
		}
	}
	json_decref(root);
	return rc;
}
