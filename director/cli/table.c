// SPDX-License-Identifier: Apache-2.0
#include "director/cli/table.h"

#include "director/cli/text.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

struct table {
	struct column {
		const char *title;
		bool right;
		size_t width;
	} columns[TABLE_COLUMNS_MAX];
	size_t column_count;
	char **cells; // row by row
	size_t cell_count, room;
	bool failed;
};

struct table *table_new(void)
{
	return calloc(1, sizeof(struct table));
}

void table_column(struct table *table, const char *title, bool right)
{
	assert(table->column_count < TABLE_COLUMNS_MAX && table->cell_count == 0);
	table->columns[table->column_count++] = (struct column) { title, right, text_width(title) };
}

void table_cell(struct table *table, const char *text)
{
	struct column *column = &table->columns[table->cell_count % table->column_count];
	size_t width;
	char *copy;

	if (table->cell_count == table->room) {
		size_t room = table->room ? 2 * table->room : 64;
		char **cells = reallocarray(table->cells, room, sizeof(*cells));

		if (!cells) {
			table->failed = true;
			return;
		}
		table->cells = cells;
		table->room = room;
	}
	copy = text_clean(text && *text ? text : "-");
	if (!copy) {
		table->failed = true;
		return;
	}
	table->cells[table->cell_count++] = copy;
	width = text_width(copy);
	if (width > column->width)
		column->width = width;
}

static void print_cell(const struct table *table, size_t index, const char *text, FILE *out)
{
	const struct column *column = &table->columns[index];
	bool last = index + 1 == table->column_count;
	int pad = (int)(column->width - text_width(text));

	if (column->right)
		fprintf(out, "%*s%s%s", pad, "", text, last ? "\n" : "  ");
	else if (last)
		fprintf(out, "%s\n", text);
	else
		fprintf(out, "%s%*s", text, pad + 2, "");
}

int table_print(const struct table *table, FILE *out)
{
	if (table->failed)
		return -ENOMEM;
	for (size_t i = 0; i < table->column_count; i++)
		print_cell(table, i, table->columns[i].title, out);
	for (size_t i = 0; i < table->cell_count; i++)
		print_cell(table, i % table->column_count, table->cells[i], out);
	if (table->column_count)
		for (size_t i = table->cell_count; i % table->column_count != 0; i++)
			print_cell(table, i % table->column_count, "-", out);
	return 0;
}

void table_free(struct table *table)
{
	if (!table)
		return;
	for (size_t i = 0; i < table->cell_count; i++)
		free(table->cells[i]);
	free(table->cells);
	free(table);
}
