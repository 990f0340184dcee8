// The configuration file: every problem names a line of the file, and single keys are found in any text.
#include "config/config.hpp"
#include "config/include.hpp"
#include "harness.hpp"

using namespace curvegate;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = fuzz::copy_of(data, size);
    const auto lines = static_cast<std::size_t>(std::ranges::count(input, '\n')) + 1;
    const auto check = [&](const Problems& problems) {
        for (const auto& problem : problems) fuzz::must(problem.line <= lines && !problem.text.empty());
    };
    const auto parsed = config::parse(as_text(input), "curvegate.conf");
    if (parsed) {
        check(parsed->warnings);
        for (const auto& service : parsed->config.services) {
            fuzz::must(parsed->config.find_service(service.name) != nullptr);
            fuzz::must(service.side == config::Side::server ? parsed->config.needs_server_key()
                                                            : parsed->config.needs_client_key());
        }
    } else {
        fuzz::must(!parsed.error().empty());
        check(parsed.error());
    }
    // As an included file: its problems are told with its name.
    const auto included =
        config::parse({{"curvegate.conf", "known-hosts = /k\n"}, {"included", std::string(as_text(input))}});
    if (!included) check(included.error());
    if (const auto sources = config::unpack(as_text(input)))
        fuzz::must(config::pack(*sources) == as_text(input));
    (void)config::find_global(as_text(input), "control");
    (void)config::find_global(as_text(input), "known-hosts");
    return 0;
}
