// What C++ asks of a loader. `run` gives 42 if all of it is right.
#include <algorithm>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {
int alive, cleaned;

struct Shape {
    virtual ~Shape() { alive--; }
    virtual double area() const = 0;
};

struct Square : Shape {
    explicit Square(double side) : side(side) { alive++; }
    double area() const override { return side * side; }
    double side;
};

struct Guard {
    ~Guard() { cleaned++; }
};

std::map<std::string, int> table{{"one", 1}, {"two", 2}, {"three", 3}};

__attribute__((noinline)) int at(const std::string &name)
{
    Guard guard;
    return table.at(name);
}

template <class T> T sum(const std::vector<T> &values)
{
    T total{};
    std::for_each(values.begin(), values.end(), [&](T value) { total += value; });
    return total;
}
}

extern "C" long run()
{
    long right = 0;
    {
        std::vector<std::unique_ptr<Shape>> shapes;
        for (int i = 1; i <= 3; i++)
            shapes.push_back(std::make_unique<Square>(i));
        double area = 0;
        for (auto &shape : shapes)
            area += shape->area();
        right += area == 14 && alive == 3;
        right += dynamic_cast<Square *>(shapes[1].get()) != nullptr;
    }
    right += alive == 0 && at("two") == 2 && sum(std::vector<int>{1, 2, 3}) == 6;
    try {
        at("four");
    } catch (const std::out_of_range &error) {
        right += cleaned == 2 && std::string(error.what()).find("at") != std::string::npos;
    }
    try {
        try {
            throw std::string("first");
        } catch (const std::string &text) {
            throw static_cast<long>(text.size());
        }
    } catch (long size) {
        right += size == 5;
    }
    return right == 5 ? 42 : right;
}
