// C++ that makes a compiler work (deep templates, the heavy headers) and a program that makes operator new work.
#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <iostream>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <numeric>
#include <random>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

template <std::size_t N> struct Fibonacci {
    static constexpr std::uint64_t value = Fibonacci<N - 1>::value + Fibonacci<N - 2>::value;
};
template <> struct Fibonacci<1> { static constexpr std::uint64_t value = 1; };
template <> struct Fibonacci<0> { static constexpr std::uint64_t value = 0; };

template <typename... Parts> struct Tree {
    std::map<std::string, std::variant<Parts..., std::vector<std::tuple<Parts...>>>> branches;
};

template <std::size_t... Index> auto table(std::index_sequence<Index...>) {
    return std::array<std::uint64_t, sizeof...(Index)>{Fibonacci<Index>::value...};
}

struct alignas(256) Wide {
    std::uint64_t words[32];
};

static std::uint64_t churn(std::uint32_t seed) {
    std::mt19937 random(seed);
    std::unordered_map<std::uint32_t, std::unique_ptr<std::string>> live;
    std::list<std::shared_ptr<std::deque<int>>> queues;
    std::uint64_t sum = 0;
    for (int step = 0; step < 60000; ++step) {
        std::uint32_t key = random() % 5000;
        if (auto found = live.find(key); found != live.end()) {
            sum += found->second->size();
            live.erase(found);
        } else {
            live.emplace(key, std::make_unique<std::string>(random() % 300, 'x'));
        }
        if (step % 100 == 0) {
            queues.push_back(std::make_shared<std::deque<int>>(random() % 2000, step));
            if (queues.size() > 20) {
                sum += std::accumulate(queues.front()->begin(), queues.front()->end(), std::uint64_t{0});
                queues.pop_front();
            }
        }
    }
    return sum;
}

int main() {
    for (std::uint64_t number : table(std::make_index_sequence<80>{})) {
        std::cout << number << ' ';
    }
    std::cout << '\n';

    Tree<int, double, std::string> tree;
    tree.branches["list"] = std::vector<std::tuple<int, double, std::string>>{{1, 2.5, "three"}, {4, 5.5, "six"}};
    tree.branches["leaf"] = std::string("green");
    std::visit([](auto &&leaf) { std::cout << sizeof(leaf) << '\n'; }, tree.branches["leaf"]);

    std::string text;
    for (int i = 0; i < 2000; ++i) {
        text += "key" + std::to_string(i) + "=" + std::to_string(i * i) + ";";
    }
    std::regex pair("key([0-9]+)=([0-9]*7);");
    std::cout << std::distance(std::sregex_iterator(text.begin(), text.end(), pair), std::sregex_iterator()) << '\n';

    std::vector<std::future<std::uint64_t>> workers;
    for (std::uint32_t seed = 1; seed <= 4; ++seed) {
        workers.push_back(std::async(std::launch::async, churn, seed));
    }
    for (auto &worker : workers) {
        std::cout << worker.get() << '\n';
    }

    std::vector<std::unique_ptr<Wide>> wide;
    bool aligned = true;
    for (int i = 0; i < 1000; ++i) {
        wide.push_back(std::make_unique<Wide>());
        aligned &= reinterpret_cast<std::uintptr_t>(wide.back().get()) % alignof(Wide) == 0;
    }
    std::cout << "aligned new: " << aligned << '\n';

    volatile std::size_t absurd = PTRDIFF_MAX;
    try {
        delete[] new char[absurd];
        std::cout << "an absurd size was given\n";
    } catch (const std::bad_alloc &refusal) {
        std::cout << refusal.what() << '\n';
    }
    std::cout << (new (std::nothrow) char[absurd] == nullptr) << '\n';

    int calls = 0;
    static int *counter = &calls;
    std::set_new_handler([] {
        if (++*counter == 3) {
            throw std::runtime_error("the new-handler gave up");
        }
    });
    try {
        delete[] new char[absurd];
    } catch (const std::exception &refusal) {
        std::cout << refusal.what() << " after " << calls << '\n';
    }
    return 0;
}
