// SPDX-License-Identifier: Apache-2.0
// A text table for a terminal: a line of titles, rows below, columns aligned and two spaces apart.
//
// First the columns, then the cells, row by row. Cells are copied and made fit for a terminal (text.h). The last column
// is not padded unless it is aligned right. Lack of memory on the way is remembered and told by table_print.
#ifndef BRASS_CLI_TABLE_H
#define BRASS_CLI_TABLE_H

#include "shared/util.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define TABLE_COLUMNS_MAX 16

struct table;

struct table *table_new(void);

// right: for numbers. At most TABLE_COLUMNS_MAX, before the first cell.
void table_column(struct table *table, const char *title, bool right);

// The next cell; an empty one (or NULL) is shown as "-".
void table_cell(struct table *table, const char *text);

// Returns 0, or -ENOMEM when a cell is missing: then nothing is printed. A row that was not finished is filled with
// "-".
int table_print(const struct table *table, FILE *out);

void table_free(struct table *table);
DEFINE_CLEANUP(struct table *, table_free)

#endif
