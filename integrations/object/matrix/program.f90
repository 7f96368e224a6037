! What Fortran asks of a loader. `run` gives 42 if all of it is right.
module shared
  implicit none
  integer :: counter = 40
  real(8), dimension(3), parameter :: weights = [0.5d0, 1.5d0, 2.0d0]
contains
  pure recursive function factorial(n) result(product)
    integer, intent(in) :: n
    integer :: product
    product = 1
    if (n > 1) product = n * factorial(n - 1)
  end function
end module

function run() bind(c, name="run") result(answer)
  use iso_c_binding
  use shared
  implicit none
  integer(c_long) :: answer
  real(8), allocatable :: matrix(:, :)
  character(len=20) :: text
  allocate(matrix(3, 3))
  matrix = 2.0d0
  answer = 0
  if (abs(sum(matmul(matrix, weights)) - 24.0d0) < 1d-9) answer = answer + 1
  if (factorial(5) == 120) answer = answer + 1
  write (text, '(i5, f8.3)') counter, sin(0.0d0) + 1.5d0
  if (text == "   40   1.500") counter = counter + answer
  answer = counter
end function
