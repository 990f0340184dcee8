#include "cli/exit.hpp"
#include "cli/key_checks.hpp"
#include "cli/options.hpp"
#include "cli/places.hpp"
#include "cli/verbs.hpp"
#include "os/random.hpp"
#include "vault/counter_store.hpp"

namespace curvegate::cli {
namespace {

int init_one(const config::Config& config, const KeyUse& use) {
    const auto header = read_key_header(use);
    if (!header) {
        const bool system = header.error().is(os::Errc::system);
        return complain(system ? exit_for_reading(use.path) : exit_code::kBadData,
                        system ? header.error().detail() : use.path + ": " + header.error().text());
    }
    const std::string path = counter_of(config, use, header->public_key);
    os::SystemRandom random;
    const auto made = vault::init_counter(path, header->public_key, random);
    if (!made) {
        const bool denied = made.error().is(vault::CounterErrc::denied);
        const bool writing = denied || made.error().is(vault::CounterErrc::cannot_write) ||
                             made.error().is(vault::CounterErrc::no_folder);
        return complain(writing ? exit_for_writing(path) : exit_code::kBadData, made.error().text());
    }
    switch (made->done) {
        case vault::CounterInit::created: print(path + ": made"); break;
        case vault::CounterInit::already_good: print(path + ": there is one already, and it is good"); break;
        case vault::CounterInit::replaced:
            print(path + ": made anew; the old one, which was of no use, is " + made->moved_to);
            break;
    }
    return exit_code::kOk;
}

}  // namespace

int counter(const Verb& self, const Arguments& arguments) {
    Options options(self);
    options.value("config,c", "FILE", "the configuration (default: curvegate.conf in its usual place)")
        .operands(1, 1);
    if (const auto end = options.parse(arguments)) return *end;
    if (options.operands().front() != "init") return options.usage_error("want counter init");
    const auto parsed = load_config(options.has("config") ? options.get("config") : default_config());
    if (!parsed) return parsed.error();
    int result = exit_code::kOk;
    bool any = false;
    for (const KeyUse& use : keys_in_use(*parsed)) {
        if (use.path.empty()) continue;
        any = true;
        if (const int code = init_one(parsed->config, use); code != exit_code::kOk) result = code;
    }
    if (!any)
        return complain(exit_code::kConfig, parsed->config.file + " names no server-key and no client-key");
    const int written = finish_output();
    return result != exit_code::kOk ? result : written;
}

}  // namespace curvegate::cli
