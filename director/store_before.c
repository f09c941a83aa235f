// SPDX-License-Identifier: Apache-2.0
#include "director/store_before.h"

#include "shared/util.h"

#include <errno.h>
#include <string.h>

// A row: three strings behind each other in the texts.
struct store_before_note {
	int kind;
	bool had_text; // else the third is missing
	size_t at;
};

void store_befores_clear(struct store_befores *befores)
{
	free(befores->notes);
	out_free(&befores->texts);
	*befores = (struct store_befores) { 0 };
}

static void add_text(struct out *texts, const char *text)
{
	out_bytes(texts, text, strlen(text) + 1);
}

int store_befores_note(struct store_befores *befores, int kind, const char *owner, const char *name, const char *text)
{
	struct out *texts = &befores->texts;

	if (befores->count == befores->room) {
		size_t room = befores->room ? 2 * befores->room : 16;
		struct store_before_note *notes = reallocarray(befores->notes, room, sizeof(*notes));

		if (!notes)
			return -ENOMEM;
		befores->notes = notes;
		befores->room = room;
	}
	befores->notes[befores->count] = (struct store_before_note) { kind, text, texts->len };
	add_text(texts, owner);
	add_text(texts, name);
	if (text)
		add_text(texts, text);
	if (texts->failed)
		return -ENOMEM;
	befores->count++;
	return 0;
}

static struct store_before row_of(const struct store_befores *befores, const struct store_before_note *note)
{
	const char *owner = befores->texts.text + note->at, *name = owner + strlen(owner) + 1;

	return (struct store_before) { note->kind, owner, name, note->had_text ? name + strlen(name) + 1 : NULL };
}

// Of one row the first change comes first: later ones have later texts.
static int by_row(const void *a, const void *b)
{
	const struct store_before *left = a, *right = b;
	int c = left->kind - right->kind;

	if (!c)
		c = strcmp(left->owner, right->owner);
	if (!c)
		c = strcmp(left->name, right->name);
	return c ? c : left->owner < right->owner ? -1 : left->owner > right->owner;
}

static bool same_row(const struct store_before *a, const struct store_before *b)
{
	return a->kind == b->kind && strcmp(a->owner, b->owner) == 0 && strcmp(a->name, b->name) == 0;
}

int store_befores_rows(const struct store_befores *befores, struct store_before **ret, size_t *ret_count)
{
	struct store_before *rows = calloc(befores->count + 1, sizeof(*rows));
	size_t count = 0;

	if (!rows)
		return -ENOMEM;
	for (size_t i = 0; i < befores->count; i++)
		rows[i] = row_of(befores, &befores->notes[i]);
	sort_items(rows, befores->count, sizeof(*rows), by_row);
	for (size_t i = 0; i < befores->count; i++)
		if (!count || !same_row(&rows[count - 1], &rows[i]))
			rows[count++] = rows[i];
	*ret = rows;
	*ret_count = count;
	return 0;
}
