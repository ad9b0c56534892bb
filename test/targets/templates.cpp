/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Leaks from deep within templates of the C++ library, by ways that share their outer frames. */
#include "target.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

/*
 * templates
 *   leak      leaks in three ways; answers with their number
 */
namespace shop
{
struct item {
    std::string name;
    long price;
};
template <typename key, typename value> class index
{
  public:
    WATCHED void add(const key &at, std::shared_ptr<value> what)
    {
        entries[at].push_back(std::move(what));
        STAY();
    }

  private:
    std::map<key, std::vector<std::shared_ptr<value>>> entries;
};
using catalogue = index<std::string, item>;

namespace
{
WATCHED void fill(catalogue &target)
{
    target.add("a shelf whose name is too long to be kept inside a string object",
               std::make_shared<item>());
    STAY();
}

WATCHED void copy_name(std::vector<std::string> &names)
{
    names.emplace_back("an item whose name is too long to be kept inside a string object");
    STAY();
}

WATCHED char *duplicate(const char *text)
{
    char *copy = strdup(text);
    KEEP(copy);
    return copy;
}
} // namespace

template <typename visitor> WATCHED void dispatch(visitor visit)
{
    visit();
    STAY();
}

/* As the loop of a server: everything is called from here. */
WATCHED void serve(const std::function<void()> &command)
{
    dispatch(command);
    STAY();
}
} // namespace shop

int main()
{
    auto *catalogue = new shop::catalogue;
    auto *names = new std::vector<std::string>;
    const std::function<void()> commands[] = {[=] { shop::fill(*catalogue); },
                                              [=] { shop::copy_name(*names); },
                                              [] { KEEP(shop::duplicate("text")); }};
    char line[64];

    say("{\"ready\":true}");
    while (hear(line, sizeof line)) {
        for (const auto &command : commands)
            shop::serve(command);
        say("{\"ways\":3}");
    }
    return 0;
}
