#include "io/system_resolver.hpp"

#include "io/look_up.hpp"

#include <boost/asio/execution_context.hpp>
#include <boost/asio/post.hpp>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

namespace curvegate::io {
namespace {

/// Whether an io_context still takes what another thread has for it. It hears of the io_context's end first.
class Gate final : public asio::execution_context::service {
  public:
    static inline asio::execution_context::id id;
    explicit Gate(asio::execution_context& owner) : service(owner) {}

    struct State {
        std::mutex mutex;
        bool open = true;
    };
    [[nodiscard]] const std::shared_ptr<State>& state() const noexcept { return state_; }

  private:
    void shutdown() override {
        const std::lock_guard lock(state_->mutex);
        state_->open = false;
    }
    std::shared_ptr<State> state_ = std::make_shared<State>();
};

/// Looks names up in a thread of its own, which begins with the first one. Nobody waits for it: a silent name
/// server holds up neither the caller's loop, whose dials have deadlines, nor the end of the program.
class SystemResolver final : public Resolver {
  public:
    SystemResolver() = default;
    /// The thread is waited for if it waits itself. One that asks a silent name server is left to end later.
    ~SystemResolver() override {
        const bool asks = jobs_->close();
        if (!thread_.joinable()) return;
        if (asks) {
            thread_.detach();
        } else {
            thread_.join();
        }
    }
    SystemResolver(const SystemResolver&) = delete;
    SystemResolver& operator=(const SystemResolver&) = delete;

    void resolve(asio::io_context& context, const std::string& host, Handler handler) override {
        Job job{&context, asio::use_service<Gate>(context).state(), host, std::move(handler)};
        if (!thread_.joinable()) {
            try {
                thread_ = std::thread([jobs = jobs_] { work(*jobs); });
            } catch (const std::system_error&) {  // no thread is left
                return answer(std::move(job), fail(DialErrc::own_lack, host));
            }
        }
        jobs_->add(std::move(job));
    }

  private:
    using Found = Result<std::vector<ScopedIp>>;
    struct Job {
        asio::io_context* context;
        std::shared_ptr<Gate::State> gate;
        std::string host;
        Handler handler;
    };
    class Jobs {
      public:
        void add(Job job) {
            const std::lock_guard lock(mutex_);
            waiting_.push_back(std::move(job));
            changed_.notify_one();
        }
        /// Waits for the next one. Returns nullopt if none will come.
        std::optional<Job> take() {
            std::unique_lock lock(mutex_);
            asks_ = false;
            changed_.wait(lock, [this] { return closed_ || !waiting_.empty(); });
            if (closed_) return std::nullopt;
            Job next = std::move(waiting_.front());
            waiting_.pop_front();
            asks_ = true;
            return next;
        }
        /// No job will be taken any more. Returns whether one that was taken is still worked on.
        bool close() {
            const std::lock_guard lock(mutex_);
            closed_ = true;
            waiting_.clear();
            changed_.notify_one();
            return asks_;
        }

      private:
        std::mutex mutex_;
        std::condition_variable changed_;
        std::deque<Job> waiting_;
        bool closed_ = false;
        bool asks_ = false;
    };

    static void work(Jobs& jobs) {
        while (auto job = jobs.take()) {
            Found found = look_up(job->host);
            answer(std::move(*job), std::move(found));
        }
    }
    static void answer(Job job, Found found) {
        const std::lock_guard lock(job.gate->mutex);
        if (!job.gate->open) return;
        asio::post(*job.context, [found = std::move(found), handler = std::move(job.handler)]() mutable {
            handler(std::move(found));
        });
    }

    std::shared_ptr<Jobs> jobs_ = std::make_shared<Jobs>();
    std::thread thread_;
};

}  // namespace

std::unique_ptr<Resolver> make_system_resolver() {
    return std::make_unique<SystemResolver>();
}

}  // namespace curvegate::io
