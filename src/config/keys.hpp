#pragma once

#include "config/config.hpp"
#include "config/values.hpp"

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace curvegate::config {

/// A section while its lines are read.
struct ServiceDraft {
    Service service;
    std::string accept;  ///< as written: what it may say depends on `client`, which may come later
    struct Target {
        std::string text;
        std::size_t line;
    };
    std::vector<Target> connect;                    ///< the same
    std::map<std::string_view, std::size_t> lines;  ///< key -> line
};

/// One `key = value` line on its way into the configuration.
struct Setting {
    std::string_view value;
    std::size_t line;
    Config& config;
    ServiceDraft& service;  ///< in the globals: what every section begins with
    std::string problem;    ///< empty: the value was good

    template <class To, class From>
    void store(To& to, Value<From> parsed) {
        if (parsed) {
            to = static_cast<To>(std::move(*parsed));
        } else {
            problem = std::move(parsed.error());
        }
    }
};

enum class Where {
    global,   ///< above the first [section]
    service,  ///< in a [section]
    either,   ///< in a [section]; above them, it is the default for all
};
enum class Times {
    once,
    any,  ///< the values accumulate
};

/// A key of the configuration file. The one table of them (keys.cpp) serves the parser, the nearest match and
/// the manual.
struct Key {
    std::string_view name;
    Where where;
    std::string_view value;  ///< the form of the value: "PATH", "DURATION", "yes|no"...
    std::string_view help;   ///< one sentence without its full stop, with the default
    void (*apply)(Setting&);
    Times times = Times::once;  ///< how often it may stand in one section
};

[[nodiscard]] std::span<const Key> all_keys();
/// The key of this name, or nullptr.
[[nodiscard]] const Key* find_key(std::string_view name);
/// For the nearest match.
[[nodiscard]] std::vector<std::string_view> key_names();

}  // namespace curvegate::config
