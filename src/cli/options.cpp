#include "cli/options.hpp"

#include "cli/exit.hpp"
#include "text/reading.hpp"

#include <boost/program_options.hpp>

#include <sstream>

namespace curvegate::cli {
namespace {

namespace po = boost::program_options;

constexpr const char* kOperands = "operand";

}  // namespace

struct Options::Parser {
    po::options_description options{"options"};
    po::variables_map values;
    std::vector<std::string> operands;
    std::size_t least = 0;
    std::size_t most = 0;

    void run(const Arguments& arguments) {
        po::options_description all;
        all.add(options).add_options()(kOperands, po::value(&operands), "");
        po::positional_options_description positions;
        positions.add(kOperands, -1);
        // Abbreviated options would break on the day that another one begins the same.
        const int style = po::command_line_style::default_style & ~po::command_line_style::allow_guessing;
        po::store(po::command_line_parser(arguments).options(all).positional(positions).style(style).run(),
                  values);
        po::notify(values);
    }

    [[nodiscard]] std::string guess(const std::string& name) const {
        std::vector<std::string> known;
        for (const auto& option : options.options()) known.push_back("--" + option->long_name());
        return text::did_you_mean(name, std::vector<std::string_view>(known.begin(), known.end()));
    }
};

Options::Options(const Verb& verb) : verb_(verb), parser_(std::make_unique<Parser>()) {
    flag("help,h", "say this and end");
}
Options::~Options() = default;

Options& Options::flag(const char* names, const char* help) {
    parser_->options.add_options()(names, help);
    return *this;
}

Options& Options::value(const char* names, const char* form, const char* help) {
    parser_->options.add_options()(names, po::value<std::string>()->value_name(form), help);
    return *this;
}

Options& Options::operands(std::size_t least, std::size_t most) {
    parser_->least = least;
    parser_->most = most;
    return *this;
}

std::optional<int> Options::parse(const Arguments& arguments) {
    try {
        parser_->run(arguments);
    } catch (const po::unknown_option& error) {
        return usage_error(error.what() + parser_->guess(error.get_option_name()));
    } catch (const po::error& error) {
        return usage_error(error.what());
    }
    if (has("help")) {
        std::ostringstream text;
        text << parser_->options;
        print(usage_of(verb_) + "\n" + std::string(verb_.help) + "\n\n" + text.str());
        return finish_output();
    }
    const std::size_t given = operands().size();
    if (given < parser_->least) {
        // The word that comes next, as the usage names it: "SERVICE", "init".
        text::Words expected(verb_.arguments);
        std::string_view missing = expected.next();
        for (std::size_t i = 0; i < given; ++i) missing = expected.next();
        return usage_error(std::string(missing) + " is missing");
    }
    if (given > parser_->most)
        return usage_error("one word too many: " + text::quoted(operands()[parser_->most]));
    return std::nullopt;
}

int Options::usage_error(const std::string& text) const {
    complain(exit_code::kUsage, std::string(verb_.name) + ": " + text);
    return complain(exit_code::kUsage, usage_of(verb_));
}

bool Options::has(const std::string& name) const {
    return parser_->values.count(name) != 0;
}

std::string Options::get(const std::string& name) const {
    return has(name) ? parser_->values[name].as<std::string>() : std::string();
}

const std::vector<std::string>& Options::operands() const noexcept {
    return parser_->operands;
}

std::string usage_of(const Verb& verb) {
    return "usage: curvegate " + std::string(verb.name) + (verb.arguments.empty() ? "" : " ") +
           std::string(verb.arguments);
}

}  // namespace curvegate::cli
