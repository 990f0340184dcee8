#pragma once

#include "cli/verbs.hpp"

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace curvegate::cli {

/// The command line of one verb: declare options, then parse. `--help` comes by itself.
class Options {
  public:
    explicit Options(const Verb& verb);
    ~Options();

    /// `names` as Boost writes them: "config,c" is --config and -c.
    Options& flag(const char* names, const char* help);
    Options& value(const char* names, const char* form, const char* help);
    /// How many words without a dash may stand there; none unless said.
    Options& operands(std::size_t least, std::size_t most);

    /// The exit code if the verb ends here: the help was asked for, or the command line is wrong (and that
    /// was told); nothing if it may go on.
    [[nodiscard]] std::optional<int> parse(const Arguments& arguments);
    /// Complains about the command line, with the usage line; gives the exit code.
    [[nodiscard]] int usage_error(const std::string& text) const;

    [[nodiscard]] bool has(const std::string& name) const;
    /// Empty if it was not given.
    [[nodiscard]] std::string get(const std::string& name) const;
    [[nodiscard]] const std::vector<std::string>& operands() const noexcept;

  private:
    struct Parser;
    const Verb& verb_;
    std::unique_ptr<Parser> parser_;
};

/// "usage: curvegate VERB ARGUMENTS"
[[nodiscard]] std::string usage_of(const Verb& verb);

}  // namespace curvegate::cli
