#include "sum.h"
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

static const char program[] =
    "local t = {} for i = 1, 2000 do t[i] = (i * 7919) % 1009 end table.sort(t)\n"
    "local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end\n"
    "local co = coroutine.wrap(function() for i = 1, 5 do coroutine.yield(i * i) end end)\n"
    "local sum = 0 for _ = 1, 5 do sum = sum + co() end\n"
    "local ok, message = pcall(function() error('caught ' .. #t) end)\n"
    "local s = string.format('%d %s %.6f %x %q', fib(20), tostring(ok), math.sin(1) + 2 ^ 0.5, sum, message)\n"
    "return s .. ' ' .. table.concat(t, ',', 1, 20) .. ' ' .. ('a,b,c'):gsub(',', ';') .. utf8.char(228, 8364)\n";

long run(void)
{
    lua_State *lua = luaL_newstate();
    luaL_openlibs(lua);
    if (luaL_dostring(lua, program) != LUA_OK)
        return -1;
    see(lua_tostring(lua, -1), strlen(lua_tostring(lua, -1)));
    see_number(luaL_dostring(lua, "return nil + 1"));
    see(lua_tostring(lua, -1), strlen(lua_tostring(lua, -1)));
    lua_close(lua);
    return (long)sum;
}
