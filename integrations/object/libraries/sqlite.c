#include "sum.h"
#include <sqlite3.h>

static int row(void *unused, int count, char **values, char **names)
{
    (void)unused;
    for (int i = 0; i < count; i++) {
        see(names[i], strlen(names[i]));
        see(values[i] ? values[i] : "NULL", values[i] ? strlen(values[i]) : 4);
    }
    return 0;
}

long run(void)
{
    static const char *const statements[] = {
        "create table t(id integer primary key, name text, number real)",
        "with recursive c(x) as (select 1 union all select x + 1 from c where x < 3000) "
        "insert into t(name, number) select printf('name %d', x * 7919 % 1009), sqrt(x) from c",
        "create index by_name on t(name)",
        "select count(*), sum(id), round(avg(number), 6), max(name) from t where name like 'name 1%'",
        "select a.name, count(*) from t a join t b on a.name = b.name group by a.name order by 2 desc, 1 limit 20",
        "select json_extract('{\"a\":[1,2,{\"b\":42}]}', '$.a[2].b'), hex(zeroblob(3)), upper('abc')",
        "delete from t where id % 3 = 0",
        "select sum(id), strftime('%Y-%m-%d', 86400 * 365, 'unixepoch') from t",
        "select nothing from nowhere",
    };
    sqlite3 *db;
    see_number(sqlite3_open(":memory:", &db));
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        char *message = NULL;
        see_number(sqlite3_exec(db, statements[i], row, NULL, &message));
        if (message)
            see(message, strlen(message));
        sqlite3_free(message);
    }
    see_number(sqlite3_close(db));
    return (long)sum;
}
